//! What is on its way to a server: commands are put here by whoever has one, and written by the one task that has the socket. Nothing
//! here knows what they mean.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::Problem;
use super::refusal::Refusal;

/// Bytes that wait to be written: far more than the settlements and renewals of all that can be held. Beyond it the server is stuck.
const WAITING_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How much of the memory of a large batch is kept for the next one.
const KEPT_BYTES: usize = 64 * 1024;

/// An answer to a command, when it comes; an error of the channel: the connection was lost before.
pub(in crate::queue::nsq) type Answer = oneshot::Receiver<Result<(), Refusal>>;

/// The way to a server over one connection.
#[derive(Debug)]
pub(in crate::queue::nsq) struct Wire {
    // std's mutex: held to add or take bytes, never across an await.
    out: Mutex<Out>,
    /// Wakes the writing task.
    stirred: Notify,
    /// Wakes who waits for what was put here to be written.
    moved: Notify,
}

#[derive(Debug)]
struct Out {
    bytes: BytesMut,
    /// Counts what was put here.
    put: u64,
    /// All up to this one was written.
    written: u64,
    /// Who waits for answers, in the order of the commands.
    answers: VecDeque<oneshot::Sender<Result<(), Refusal>>>,
    state: State,
    /// When the server was last heard of.
    heard: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// What is here is written, and then no more.
    Finishing,
    Closed,
}

impl Wire {
    pub(in crate::queue::nsq) fn new() -> Self {
        let out = Out {
            bytes: BytesMut::new(),
            put: 0,
            written: 0,
            answers: VecDeque::new(),
            state: State::Open,
            heard: Instant::now(),
        };
        Self { out: Mutex::new(out), stirred: Notify::new(), moved: Notify::new() }
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether commands still leave by it.
    pub(in crate::queue::nsq) fn is_open(&self) -> bool {
        self.out().state == State::Open
    }

    /// Puts commands on their way: their number, for [`Wire::written`]; none: the connection is lost.
    pub(in crate::queue::nsq) fn put(&self, write: impl FnOnce(&mut BytesMut)) -> Option<u64> {
        let mut out = self.out();
        if out.state != State::Open || out.bytes.len() > WAITING_BYTES_MAX {
            return None;
        }
        write(&mut out.bytes);
        out.put += 1;
        let number = out.put;
        drop(out);
        self.stirred.notify_one();
        Some(number)
    }

    /// Puts a command on its way that the server answers.
    pub(in crate::queue::nsq) fn ask(&self, write: impl FnOnce(&mut BytesMut)) -> Option<Answer> {
        let (answered, answer) = oneshot::channel();
        let mut out = self.out();
        if out.state != State::Open || out.bytes.len() > WAITING_BYTES_MAX {
            return None;
        }
        write(&mut out.bytes);
        out.put += 1;
        out.answers.push_back(answered);
        drop(out);
        self.stirred.notify_one();
        Some(answer)
    }

    /// The server has done what the oldest command says that waits for its answer.
    pub(in crate::queue::nsq) fn done(&self) {
        if let Some(waiting) = self.out().answers.pop_front() {
            // Whoever asked may have stopped waiting.
            let _ = waiting.send(Ok(()));
        }
    }

    /// The server has refused it, and does nothing that follows. Whoever hears of it finds the connection closed.
    pub(in crate::queue::nsq) fn refused(&self, refusal: Refusal) {
        let waiting = self.out().answers.pop_front();
        self.close();
        if let Some(waiting) = waiting {
            let _ = waiting.send(Err(refusal));
        }
    }

    /// Waits until commands up to this number were written; false: the connection was lost before.
    pub(in crate::queue::nsq) async fn written(&self, number: u64) -> bool {
        loop {
            let moved = self.moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            {
                let out = self.out();
                if out.written >= number {
                    return true;
                }
                if out.state == State::Closed {
                    return false;
                }
            }
            moved.await;
        }
    }

    /// Something came from the server.
    pub(in crate::queue::nsq) fn hear(&self) {
        self.out().heard = Instant::now();
    }

    /// When something last came.
    pub(in crate::queue::nsq) fn heard(&self) -> Instant {
        self.out().heard
    }

    /// Takes no more; what is here is written, and then the server is told that nothing follows.
    pub(in crate::queue::nsq) fn finish(&self) {
        let mut out = self.out();
        if out.state == State::Open {
            out.state = State::Finishing;
        }
        drop(out);
        self.stirred.notify_one();
    }

    /// The connection is lost: nobody waits for it any longer.
    pub(in crate::queue::nsq) fn close(&self) {
        let mut out = self.out();
        out.state = State::Closed;
        out.answers.clear();
        out.bytes = BytesMut::new();
        drop(out);
        self.moved.notify_waiters();
    }

    /// Writes what is put here, until it is finished or a write fails or takes longer than `longest`.
    pub(in crate::queue::nsq) async fn write_to(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        longest: Duration,
    ) -> Result<(), Problem> {
        let mut taken = BytesMut::new();
        loop {
            let (number, finishing) = {
                let mut out = self.out();
                std::mem::swap(&mut taken, &mut out.bytes);
                (out.put, out.state == State::Finishing)
            };
            if taken.is_empty() {
                if finishing {
                    return writer.shutdown().await.map_err(|error| Problem::Away(error.to_string()));
                }
                self.stirred.notified().await;
                continue;
            }
            let write = async {
                writer.write_all(&taken).await?;
                writer.flush().await
            };
            match timeout(longest, write).await {
                Err(_) => return Err(Problem::Away(format!("the server has read nothing for {longest:?}"))),
                Ok(Err(error)) => return Err(Problem::Away(format!("the connection was lost: {error}"))),
                Ok(Ok(())) => {}
            }
            if taken.capacity() > KEPT_BYTES {
                taken = BytesMut::new()
            } else {
                taken.clear()
            }
            self.out().written = number;
            self.moved.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn what_is_put_is_written_in_order_and_told() {
        let wire = Wire::new();
        let mut written = Vec::new();
        let numbers = [wire.put(|out| out.extend_from_slice(b"a")), wire.put(|out| out.extend_from_slice(b"b"))];
        assert_eq!(numbers, [Some(1), Some(2)]);
        wire.finish();
        assert_eq!(wire.put(|_| ()), None, "nothing follows");
        wire.write_to(&mut written, LONGEST).await.unwrap();
        assert_eq!(written, b"ab");
        assert!(wire.written(2).await);
    }

    #[tokio::test]
    async fn answers_go_to_who_asked_and_a_lost_connection_is_told() {
        let wire = Wire::new();
        let (one, two) = (wire.ask(|_| ()).unwrap(), wire.ask(|_| ()).unwrap());
        let three = wire.ask(|_| ()).unwrap();
        let refusal = Refusal::read("E_BAD_MESSAGE x");
        wire.done();
        wire.refused(refusal.clone());
        assert_eq!((one.await, two.await), (Ok(Ok(())), Ok(Err(refusal))));
        assert!(three.await.is_err() && !wire.written(3).await && !wire.is_open());
    }
}

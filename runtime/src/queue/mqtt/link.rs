//! One connection to a broker: made, polled, and made again when it is lost.
//!
//! Each attempt has a client and a polling loop of its own. The client could reconnect by itself, but would then publish again what was
//! not confirmed, although whoever published it was told so and does that himself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::v5::ConnAck;
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::problem::{self, Problem, SENT_AGAIN, TAKEN};

/// Waits between attempts: doubling from the first to the last, and between half and the whole of it, so that processes do not all come
/// at once.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A connection that ends before this was none: the waits before the next go on growing.
const STEADY: Duration = Duration::from_secs(10);

/// So many that were used and ended by the broker before that, one after the other: somebody else comes with our name.
const TAKEN_AFTER: u32 = 3;

/// Longest wait for the last words of a connection.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// What a connection is for. It is told what happens, in order, by the task that polls: nothing here may wait.
pub(super) trait Role: Send {
    /// Connected; whether that is all that was needed. A problem ends the connection.
    fn connected(&mut self, client: AsyncClient, connack: &ConnAck) -> Result<bool, Problem>;
    /// A packet came; whether all that was needed has now been done. A problem ends the connection.
    fn came(&mut self, packet: Incoming) -> Result<bool, Problem>;
    /// A packet has left. A problem ends the connection.
    fn left(&mut self, packet: &Outgoing) -> Result<(), Problem>;
    /// The connection is gone.
    fn lost(&mut self, problem: &Problem);
}

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// No attempt has ended yet.
    Connecting,
    /// It can be used.
    Ready,
    /// It can't.
    Lost(Problem),
}

/// What others see of a connection.
pub(super) struct Link {
    state: watch::Sender<State>,
    once: AtomicBool,
    url: String,
    /// Whether another process may come with the same client id.
    named: bool,
}

/// How a connection is made.
pub(super) struct Making<F> {
    /// What the client is told, at each attempt.
    pub(super) options: F,
    /// How many requests may wait for it.
    pub(super) requests_max: usize,
    /// Ends it, with a good-bye.
    pub(super) ended: CancellationToken,
}

impl Link {
    /// Of the queue with this URL; `named`: another process may come with the same client id.
    pub(super) fn new(url: &impl std::fmt::Display, named: bool) -> Arc<Self> {
        Arc::new(Self { state: watch::Sender::new(State::Connecting), once: AtomicBool::new(false), url: url.to_string(), named })
    }

    /// Whether it could ever be used.
    pub(super) fn once(&self) -> bool {
        self.once.load(Ordering::Relaxed)
    }

    /// Why it can't be used now.
    ///
    /// # Errors
    /// As [`Link::settled`].
    pub(super) fn check(&self) -> Result<(), Problem> {
        match &*self.state.borrow() {
            State::Ready => Ok(()),
            State::Connecting => Err(Problem::Away("not connected yet".to_owned()).of(&self.url)),
            State::Lost(problem) => Err(problem.clone()),
        }
    }

    /// Waits for the first attempt, for a while.
    ///
    /// # Errors
    /// Why it can't be used now.
    pub(super) async fn settled(&self, most: Duration) -> Result<(), Problem> {
        let mut state = self.state.subscribe();
        // Whatever it is then is told below.
        let _ = tokio::time::timeout(most, state.wait_for(|state| *state != State::Connecting)).await;
        self.check()
    }

    /// Connects, again and again, until it is ended.
    pub(super) async fn keep<R: Role, F: FnMut() -> MqttOptions + Send>(self: Arc<Self>, mut making: Making<F>, mut role: R) {
        let (mut attempt, mut short) = (0_u32, 0_u32);
        while !making.ended.is_cancelled() {
            let begun = Instant::now();
            let options = (making.options)();
            // Twice the time after which the client asks: once for asking, once for the answer.
            let silence_max = options.keep_alive() * 2 + LEAVE_MAX;
            let (client, polled) = AsyncClient::new(options, making.requests_max);
            let mut attempted = Attempt { polled, silence_max, role: &mut role, link: &self, ready: false };
            let problem = tokio::select! {
                problem = attempted.run(&client) => problem,
                () = making.ended.cancelled() => {
                    attempted.leave(&client).await;
                    break;
                }
            };
            let steady = begun.elapsed() >= STEADY;
            short = if self.named && attempted.ready && !steady { short + 1 } else { 0 };
            attempt = if steady { 1 } else { attempt.saturating_add(1) };
            let problem = told(problem, short).of(&self.url);
            role.lost(&problem);
            self.state.send_replace(State::Lost(problem));
            tokio::select! {
                () = tokio::time::sleep(wait_before(attempt, fastrand::f64())) => {}
                () = making.ended.cancelled() => {}
            }
        }
        role.lost(&Problem::Away("the queue is closed".to_owned()));
    }
}

/// One connection.
struct Attempt<'a, R> {
    polled: EventLoop,
    silence_max: Duration,
    role: &'a mut R,
    link: &'a Link,
    ready: bool,
}

impl<R: Role> Attempt<'_, R> {
    /// Until it is lost.
    async fn run(&mut self, client: &AsyncClient) -> Problem {
        loop {
            // The client's own keep-alive stands still while it waits to write to a broker that does not read.
            let event = match tokio::time::timeout(self.silence_max, self.polled.poll()).await {
                Ok(Ok(event)) => event,
                Ok(Err(error)) => return problem::of_connection(&error),
                Err(_) => return Problem::Away("the broker does not answer".to_owned()),
            };
            let done = match event {
                Event::Incoming(Incoming::ConnAck(connack)) => self.role.connected(client.clone(), &connack),
                Event::Incoming(packet) => self.role.came(packet),
                Event::Outgoing(packet) => self.role.left(&packet).map(|()| false),
            };
            match done {
                Ok(false) => {}
                Ok(true) => {
                    self.ready = true;
                    self.link.once.store(true, Ordering::Relaxed);
                    self.link.state.send_replace(State::Ready);
                }
                Err(problem) => return problem,
            }
        }
    }

    /// Says good-bye, after what is still to be sent. The broker keeps the session for as long as it was asked to.
    async fn leave(&mut self, client: &AsyncClient) {
        if !self.ready || client.try_disconnect().is_err() {
            return;
        }
        let leaving = async {
            while let Ok(event) = self.polled.poll().await {
                match event {
                    Event::Outgoing(Outgoing::Disconnect) => return,
                    // It is given up anyway.
                    Event::Outgoing(packet) => drop(self.role.left(&packet)),
                    Event::Incoming(_) => {}
                }
            }
        };
        // A broker that does not answer finds out by itself.
        let _ = tokio::time::timeout(LEAVE_MAX, leaving).await;
    }
}

/// Some brokers close a connection without a word when somebody else comes with its client id.
fn told(problem: Problem, short: u32) -> Problem {
    match problem {
        Problem::Away(text) if short >= TAKEN_AFTER && !text.contains(TAKEN) && text != SENT_AGAIN => {
            Problem::Away(format!("{text}, again and again; another process with our name? {TAKEN}"))
        }
        other => other,
    }
}

fn wait_before(attempt: u32, chance: f64) -> Duration {
    let whole = RECONNECT.0.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(RECONNECT.1);
    whole.mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_with_jitter() {
        for (attempt, chance, millis) in
            [(1, 0.0, 50), (1, 1.0, 100), (2, 1.0, 200), (3, 0.5, 300), (7, 1.0, 5_000), (u32::MAX, 1.0, 5_000)]
        {
            assert_eq!(wait_before(attempt, chance), Duration::from_millis(millis), "{attempt}, {chance}");
        }
    }

    #[test]
    fn somebody_with_our_name_is_suspected_only_after_a_while() {
        let problem = || Problem::Away("the broker closed the connection".to_owned());
        assert!(!told(problem(), TAKEN_AFTER - 1).text().contains("another process"));
        assert!(told(problem(), TAKEN_AFTER).text().contains("another process"));
    }
}

//! Who reads a subscription that one process reads at a time (`order-by`, delivery.md §4): whoever's token stands under its key, written
//! anew every sixth of a lease. Nobody compares clocks: who stands by takes over what it has seen unchanged for a whole lease, or what was
//! given up.
//!
//! Considered and left out: the server's pinned client. It sees to it that one client reads, but gives what that one held to the next one
//! later than what is new, and does not tell us when we are not it any more.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::{CreateErrorKind, Operation, Store, UpdateErrorKind};
use bytes::Bytes;

use crate::queue::QueueError;
use crate::queue::nats::lock;

/// What stands there when the last reader has left, and given back all that it had.
const FREE: &str = "free";

/// What is known of the reader of one subscription.
pub(super) struct Lead {
    key: String,
    /// Ours: the process and a number of its own.
    token: Bytes,
    // std's mutex: held for a look or a change, never across an await; the reader, the heartbeat and settlements share it.
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is known yet.
    Unknown,
    /// Another reads, and this was first seen then.
    Other { revision: u64, since: Instant },
    /// We read.
    Ours { revision: u64, renewed: Instant },
}

/// What an attempt to become the reader came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// We are; whether the last one gave back everything.
    New { clean: bool },
    /// Another is.
    No,
}

/// What is done with what stands under the key.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Nobody ever was, or long ago.
    Create,
    /// It was given up, or its holder is gone.
    Take { revision: u64, clean: bool },
    /// Another one reads, as far as we know.
    StandBy(State),
}

impl Lead {
    pub(super) fn new(key: String, process: &str) -> Self {
        let token = format!("{process} {}", uuid::Uuid::now_v7().simple());
        Self { key, token: token.into(), state: Mutex::new(State::Unknown) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether we certainly read: it was written less than `young` ago.
    pub(super) fn is_ours(&self, young: Duration) -> bool {
        matches!(*self.state(), State::Ours { renewed, .. } if renewed.elapsed() <= young)
    }

    /// Tries to become the reader.
    pub(super) async fn take(&self, store: &Store, lease: Duration) -> Result<Taken, QueueError> {
        let at = Instant::now();
        let found = store.entry(&self.key).await.map_err(|error| away(&error))?;
        let found = found.filter(|entry| entry.operation == Operation::Put).map(|entry| (entry.revision, entry.value));
        let step = next(*self.state(), found.as_ref().map(|(revision, value)| (*revision, &**value)), at, lease);
        let (written, clean) = match step {
            Step::StandBy(state) => {
                *self.state() = state;
                return Ok(Taken::No);
            }
            Step::Create => match store.create(&self.key, self.token.clone()).await {
                Ok(revision) => (revision, false),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => return Ok(Taken::No),
                Err(error) => return Err(away(&error)),
            },
            Step::Take { revision, clean } => match store.update(&self.key, self.token.clone(), revision).await {
                Ok(revision) => (revision, clean),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => return Ok(Taken::No),
                Err(error) => return Err(away(&error)),
            },
        };
        *self.state() = State::Ours { revision: written, renewed: at };
        Ok(Taken::New { clean })
    }

    /// Writes our token anew. False: another reads.
    pub(super) async fn renew(&self, store: &Store) -> Result<bool, QueueError> {
        let State::Ours { mut revision, .. } = *self.state() else { return Ok(true) };
        // An answer that was lost leaves us with an old revision: then ours stands there all the same, and is written once more.
        for _ in 0..2 {
            let at = Instant::now();
            match store.update(&self.key, self.token.clone(), revision).await {
                Ok(revision) => {
                    *self.state() = State::Ours { revision, renewed: at };
                    return Ok(true);
                }
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(away(&error)),
            }
            match store.entry(&self.key).await.map_err(|error| away(&error))? {
                Some(entry) if entry.value == self.token => revision = entry.revision,
                _ => break,
            }
        }
        self.lose();
        Ok(false)
    }

    /// We do not read any more, as far as we know.
    pub(super) fn lose(&self) {
        *self.state() = State::Unknown;
    }

    /// Leaves it to the next one: all that we had was given back.
    pub(super) async fn free(&self, store: &Store) {
        let state = std::mem::replace(&mut *self.state(), State::Unknown);
        if let State::Ours { revision, .. } = state {
            // Who stands by waits for a lease then.
            let _ = store.update(&self.key, FREE.into(), revision).await;
        }
    }

    /// Waits until what stands under the key changes, or for so long.
    pub(super) async fn changed(&self, store: &Store, at_most: Duration) {
        use futures_util::StreamExt as _;
        let change = async {
            match store.watch(&self.key).await {
                Ok(mut changes) => drop(changes.next().await),
                Err(_) => std::future::pending().await,
            }
        };
        // Without a word from the server it is looked at anyway: the holder may be gone.
        let _ = tokio::time::timeout(at_most, change).await;
    }
}

fn next(state: State, found: Option<(u64, &[u8])>, now: Instant, lease: Duration) -> Step {
    match (found, state) {
        (None, _) => Step::Create,
        (Some((revision, value)), _) if value == FREE.as_bytes() => Step::Take { revision, clean: true },
        (Some((revision, _)), State::Other { revision: seen, since }) if seen == revision => {
            match now.duration_since(since) >= lease {
                true => Step::Take { revision, clean: false },
                false => Step::StandBy(state),
            }
        }
        (Some((revision, _)), _) => Step::StandBy(State::Other { revision, since: now }),
    }
}

fn away(error: &dyn std::fmt::Display) -> QueueError {
    QueueError::Unavailable(format!("who reads this subscription can't be found out: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_by_takes_over_after_a_lease_without_a_word() {
        let (now, lease) = (Instant::now(), Duration::from_secs(30));
        let seen = |revision| State::Other { revision, since: now };
        let late = now + lease;
        for (state, found, at, expected) in [
            (State::Unknown, None, now, Step::Create),
            (State::Unknown, Some((4, &b"free"[..])), now, Step::Take { revision: 4, clean: true }),
            (State::Unknown, Some((4, b"a 1")), now, Step::StandBy(seen(4))),
            (seen(4), Some((4, b"a 1")), now + lease / 2, Step::StandBy(seen(4))),
            (seen(4), Some((4, b"a 1")), late, Step::Take { revision: 4, clean: false }),
            (seen(4), Some((5, b"a 1")), late, Step::StandBy(State::Other { revision: 5, since: late })),
            (seen(4), Some((5, b"free")), now, Step::Take { revision: 5, clean: true }),
        ] {
            assert_eq!(next(state, found, at, lease), expected, "{state:?} {found:?}");
        }
    }
}

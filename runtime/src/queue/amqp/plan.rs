//! What a settlement comes to on a queue of RabbitMQ (delivery.md §2, §13). Pure.

use super::steps::Step;
use super::url::Kind;
use crate::clock::Timestamp;
use crate::queue::{Settle, Tries};

/// What is known of a queue, and what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Means {
    /// Its type, if it is known.
    pub(super) kind: Option<Kind>,
    /// It drops a message by itself after some deliveries.
    pub(super) limited: bool,
    /// What is given back by `basic.nack` counts as no delivery.
    pub(super) nack_is_free: bool,
    /// Copies can be published, and queues to wait in be made.
    pub(super) may_copy: bool,
}

/// What is done with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It is done with.
    Ack,
    /// Given back by the server's own means, not as a try.
    Nack,
    /// The same as a try that failed: the server counts it.
    Reject,
    /// A copy is published, then it is done with.
    Copy {
        /// What went before its next try.
        tries: Tries,
        /// Not before; none: at once.
        due: Option<Timestamp>,
        /// Where it waits; none: in the queue itself, and then in who takes it.
        step: Option<Step>,
    },
    /// It waits here.
    Park {
        /// Not before.
        due: Timestamp,
        /// What went before its next try.
        tries: Tries,
    },
}

/// What is done for a settlement of a delivery that came with these tries.
pub(super) fn action(settle: Settle, before: Tries, means: Means, now: Timestamp) -> Action {
    match settle {
        Settle::Ack => Action::Ack,
        Settle::Return if means.nack_is_free || !means.may_copy => Action::Nack,
        Settle::Return => Action::Copy { tries: before, due: None, step: None },
        Settle::Retry { due, tries } => {
            let counted = Tries { failed: before.failed.saturating_add(1), ..before };
            let counts = means.kind == Some(Kind::Quorum) && !means.limited;
            match (due > now, means.may_copy) {
                (false, _) if counts && tries == counted => Action::Reject,
                (false, true) => Action::Copy { tries, due: None, step: None },
                (true, true) => Action::Copy { tries, due: Some(due), step: Step::within(due.since(now)) },
                (_, false) => Action::Park { due, tries },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const QUORUM: Means = Means { kind: Some(Kind::Quorum), limited: false, nack_is_free: false, may_copy: true };

    fn failed(failed: u32) -> Tries {
        Tries { failed, ..Tries::default() }
    }

    #[test]
    fn what_is_given_back_costs_no_try() {
        let of = |means| action(Settle::Return, failed(2), means, NOW);
        assert_eq!(of(QUORUM), Action::Copy { tries: failed(2), due: None, step: None });
        assert_eq!(of(Means { nack_is_free: true, ..QUORUM }), Action::Nack);
        assert_eq!(of(Means { may_copy: false, ..QUORUM }), Action::Nack);
        assert_eq!(action(Settle::Ack, failed(2), QUORUM, NOW), Action::Ack);
    }

    #[test]
    fn retries_wait_where_they_can() {
        let of = |wait: u64, tries, means| {
            action(Settle::Retry { due: NOW.after(Duration::from_millis(wait)), tries }, failed(1), means, NOW)
        };
        let at = |wait: u64| NOW.after(Duration::from_millis(wait));
        let copy = |due, millis| Action::Copy { tries: failed(2), due, step: Step::within(Duration::from_millis(millis)) };
        assert_eq!(of(0, failed(2), QUORUM), Action::Reject);
        for means in
            [Means { kind: Some(Kind::Classic), ..QUORUM }, Means { kind: None, ..QUORUM }, Means { limited: true, ..QUORUM }]
        {
            assert_eq!(of(0, failed(2), means), copy(None, 0));
        }
        // The server would count one more.
        assert_eq!(of(0, failed(1), QUORUM), Action::Copy { tries: failed(1), due: None, step: None });
        assert_eq!(of(5_000, failed(2), QUORUM), copy(Some(at(5_000)), 4_000));
        assert_eq!(of(500, failed(2), QUORUM), copy(Some(at(500)), 0));
        assert_eq!(of(500, failed(2), Means { may_copy: false, ..QUORUM }), Action::Park { due: at(500), tries: failed(2) });
    }
}

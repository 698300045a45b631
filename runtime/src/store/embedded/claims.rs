//! Who has which event now, for `duplicates`: in the memory of the one process that there is. What has ended: `duplicates.rs`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::store::{Claimed, EventKey, Sighting, StoreError};

/// Claims of one handler at which those whose lease has ended are first looked for; then at twice what was left. Claims are released
/// by those who hold them: what lapses is what was lost.
const SWEEP_AT: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Claims {
    // By handler. Held to look and to enter, with one read of the store for a batch: an event must not be claimed twice, nor between the
    // moment when it is kept and the end of its claim.
    handlers: Mutex<HashMap<String, Handler>>,
}

#[derive(Debug, Default)]
struct Handler {
    claims: HashMap<EventKey, Claim>,
    sweep_at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    position: Option<u128>,
    until: Timestamp,
}

impl Claims {
    /// Claims what is free until the second of `times`, the first being now. `seen` tells of each delivery whether another one of its
    /// event has ended; when it can't, nothing is claimed.
    pub(super) fn claim(
        &self,
        handler: &str,
        deliveries: &[Sighting],
        (now, until): (Timestamp, Timestamp),
        seen: impl FnOnce() -> Result<Vec<bool>, StoreError>,
    ) -> Result<Vec<Claimed>, StoreError> {
        let mut handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen()?;
        if !handlers.contains_key(handler) {
            handlers.insert(handler.to_owned(), Handler::default());
        }
        let Some(handler) = handlers.get_mut(handler) else { return Ok(Vec::new()) };
        handler.sweep(now);
        let claimed = deliveries.iter().zip(seen).map(|(delivery, seen)| {
            let claimed = decide(handler.claims.get(&delivery.key), seen, delivery, now);
            if claimed == Claimed::Mine {
                handler.claims.insert(delivery.key, Claim { position: delivery.position, until });
            }
            claimed
        });
        Ok(claimed.collect())
    }

    /// Ends the claims of these deliveries; what another delivery has claimed stays.
    pub(super) fn end(&self, handler: &str, deliveries: &[Sighting]) {
        let mut handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(handler) = handlers.get_mut(handler) else { return };
        for delivery in deliveries {
            if handler.claims.get(&delivery.key).is_some_and(|claim| claim.position == delivery.position) {
                handler.claims.remove(&delivery.key);
            }
        }
    }
}

impl Handler {
    fn sweep(&mut self, now: Timestamp) {
        if self.claims.len() >= self.sweep_at.max(SWEEP_AT) {
            self.claims.retain(|_, claim| claim.until > now);
            self.sweep_at = self.claims.len() * 2;
        }
    }
}

fn decide(claim: Option<&Claim>, seen: bool, delivery: &Sighting, now: Timestamp) -> Claimed {
    match claim {
        _ if seen => Claimed::Seen,
        Some(claim) if claim.until > now && claim.position != delivery.position => Claimed::Taken { until: claim.until },
        _ => Claimed::Mine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_run() {
        let (now, later) = (Timestamp(10), Timestamp(20));
        let at = |position| Sighting { key: EventKey([1; 16]), position };
        let held = |position, until| Some(Claim { position, until });
        for (claim, seen, position, expected) in [
            (None, false, Some(1), Claimed::Mine),
            (None, true, Some(1), Claimed::Seen),
            (held(Some(1), later), false, Some(1), Claimed::Mine),
            (held(Some(2), later), false, Some(1), Claimed::Taken { until: later }),
            (held(Some(2), now), false, Some(1), Claimed::Mine),
            (held(Some(2), later), true, Some(1), Claimed::Seen),
            (held(None, later), false, None, Claimed::Mine),
            (held(None, later), false, Some(1), Claimed::Taken { until: later }),
        ] {
            assert_eq!(decide(claim.as_ref(), seen, &at(position), now), expected, "{claim:?} {seen} {position:?}");
        }
    }

    #[test]
    fn what_has_lapsed_is_forgotten() {
        let claims = Claims::default();
        for at in 0..10 * SWEEP_AT as u64 {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&at.to_le_bytes());
            let delivery = Sighting { key: EventKey(key), position: Some(1) };
            claims.claim("h", &[delivery], (Timestamp(at), Timestamp(at + 100)), || Ok(vec![false])).unwrap();
        }
        assert!(claims.handlers.lock().unwrap()["h"].claims.len() <= SWEEP_AT);
    }
}

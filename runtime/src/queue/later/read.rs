//! The tasks of one subscription: claims what is due as pulls ask for it, and keeps what is held.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use super::side::{CLAIM_MAX, Side};
use crate::clock::{self, Timestamp};
use crate::queue::timer;
use crate::store::{DelayChange, StoreError};

/// Waits after a problem of the store: doubled from the first to the longest. Nobody tells that it is over.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Renewals a lease: it is looked at often enough that one that failed can be tried again.
const BEATS: u32 = 4;

/// Claims until the subscription ends.
pub(super) async fn read(shared: Arc<Shared>, side: Arc<Side>) {
    let ended = side.inbox.ended.clone();
    let mut pause = PAUSE.0;
    // When something may be due; pulls that are answered by the broker alone cost no look at the store.
    let mut look_at = Timestamp::default();
    while !ended.is_cancelled() {
        // Made before looking, so that what comes between looking and waiting wakes as well.
        let changed = shared.store.delays_changed(&side.shelf);
        let wanted = side.wanted();
        if wanted > 0 && look_at <= clock::now() {
            let claimed = shared.store.claim_delayed(&side.shelf, shared.lease(), wanted.min(CLAIM_MAX)).await;
            look_at = match claimed {
                Ok(due) => {
                    pause = PAUSE.0;
                    side.take_in(due.items);
                    soonest(due.next, shared.store.look_for_delayed())
                }
                Err(error) => {
                    if pause == PAUSE.0 {
                        tracing::warn!(queue = %shared.name, %error, "retries that wait in the store can't be read, trying again");
                    }
                    let wait = pause;
                    pause = (pause * 2).min(PAUSE.1);
                    clock::now().after(wait)
                }
            };
            if look_at <= clock::now() {
                continue;
            }
        }
        tokio::select! {
            () = ended.cancelled() => {}
            () = side.asking.notified() => {}
            () = side.stirred.notified() => look_at = Timestamp::default(),
            () = changed => look_at = Timestamp::default(),
            () = timer::until(Some(look_at), std::future::pending()), if wanted > 0 => {}
        }
    }
}

/// When to look again.
pub(super) fn soonest(next: Option<Timestamp>, look: Duration) -> Timestamp {
    let latest = clock::now().after(look);
    next.map_or(latest, |next| next.min(latest))
}

/// Keeps leases and writes notes until the subscription ends.
pub(super) async fn keep(shared: Arc<Shared>, side: Arc<Side>) {
    let ended = side.inbox.ended.clone();
    let beat = shared.later.lease / BEATS;
    let mut renew_at = Instant::now() + beat;
    while !ended.is_cancelled() {
        tokio::select! {
            () = ended.cancelled() => return,
            () = side.noting.notified() => {}
            () = tokio::time::sleep_until(renew_at.into()) => {}
        }
        let notes = side.notes();
        if !notes.is_empty() {
            let changes: Vec<_> = notes.iter().map(|(id, tries)| (*id, DelayChange::Note(*tries))).collect();
            match shared.store.change_delayed(&side.shelf, shared.holder, &changes).await {
                Ok(_) => side.noted(&notes),
                // With the next beat again.
                Err(error) => tracing::debug!(queue = %shared.name, %error, "tries could not be noted"),
            }
        }
        if Instant::now() >= renew_at {
            renew_at = Instant::now() + beat;
            // A store that does not answer must not keep us from telling in time what lapses.
            let renewed = tokio::time::timeout(beat / 2, renew(&shared, &side)).await;
            if let Ok(Err(error)) = renewed {
                tracing::debug!(queue = %shared.name, %error, "claims of retries could not be renewed");
            }
            let young = shared.young();
            side.inbox.lapse(|held| held.renewed.elapsed() > young);
        }
    }
}

async fn renew(shared: &Shared, side: &Side) -> Result<(), StoreError> {
    let unwanted = side.unwanted(shared.later.lease / BEATS);
    if !unwanted.is_empty() {
        let now = clock::now();
        let back = |tries| DelayChange::PutBack { due: now, tries };
        let changes: Vec<_> = unwanted.iter().map(|token| (token.id, back(token.tries))).collect();
        shared.store.change_delayed(&side.shelf, shared.holder, &changes).await?;
    }
    let held = side.held();
    if held.is_empty() {
        return Ok(());
    }
    let asked = Instant::now();
    let gone = shared.store.renew_delayed(&side.shelf, shared.lease(), &held).await?;
    let kept: Vec<_> = held.into_iter().filter(|id| !gone.contains(id)).collect();
    side.renewed(&kept, asked);
    if !gone.is_empty() {
        side.inbox.lapse(|held| gone.contains(&held.token.id));
    }
    Ok(())
}

impl Shared {
    /// Gives back all that is held of the store.
    pub(super) async fn leave(&self, side: &Side) -> Result<(), StoreError> {
        let now = clock::now();
        let tokens: Vec<_> = side.inbox.hold().iter().map(|(_, held)| held.token).collect();
        let back: Vec<_> = tokens.iter().map(|token| (token.id, DelayChange::PutBack { due: now, tries: token.tries })).collect();
        self.store.change_delayed(&side.shelf, self.holder, &back).await.map(drop)
    }
}

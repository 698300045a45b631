//! Notes of tries: what the server's count of deliveries does not tell (`tries.rs`), for whichever process gets the event next. They stand
//! in the store; without one, in this process only.

use super::shared::Shared;
use super::subscription::Subscription;
use super::tries::Note;
use crate::queue::Position;
use crate::store::{self, Noted};

impl Shared {
    fn noted<'a>(&'a self, subscription: &'a Subscription) -> Noted<'a> {
        Noted { queue: &self.name, subscription: &subscription.name }
    }

    /// Writes notes. Best effort: without them tries that were given back count.
    pub(super) async fn write_notes(&self, subscription: &Subscription, notes: &[(Position, Note)]) {
        let Some(store) = self.store.as_ref().filter(|_| !notes.is_empty()) else { return };
        let kept = |note: &Note| store::Note { delivered: u32::from(note.delivered), tries: note.tries };
        let notes: Vec<(Position, store::Note)> = notes.iter().map(|(position, note)| (*position, kept(note))).collect();
        if let Err(error) = store.write_notes(self.noted(subscription), &notes).await {
            tracing::warn!(queue = %self.name, %error, "tries that were given back could not be noted: they count");
        }
    }

    /// What is noted of deliveries with these counts; `known` is what this process remembers.
    pub(super) async fn read_notes(
        &self,
        subscription: &Subscription,
        deliveries: &[(Position, u16)],
        mut known: Vec<Option<Note>>,
    ) -> Vec<Option<Note>> {
        let Some(store) = &self.store else { return known };
        // What this process itself gave back last is known to it; another process may have had it since.
        let older = |(_, (known, (_, delivered))): &(usize, (&Option<Note>, &(Position, u16)))| {
            *delivered > 1 && known.is_none_or(|note| note.delivered + 1 < *delivered)
        };
        let asked: Vec<usize> = known.iter().zip(deliveries).enumerate().filter(older).map(|(at, _)| at).collect();
        let positions: Vec<Position> = asked.iter().filter_map(|at| deliveries.get(*at)).map(|(position, _)| *position).collect();
        match store.notes(self.noted(subscription), &positions).await {
            Ok(found) => {
                for (at, found) in asked.into_iter().zip(found) {
                    if let (Some(place), Some(found)) = (known.get_mut(at), found) {
                        *place = Some(newer(*place, found));
                    }
                }
            }
            Err(error) => tracing::warn!(queue = %self.name, %error, "notes of tries can't be read: what was given back counts"),
        }
        known
    }

    /// Removes the notes of what has ended.
    pub(super) async fn remove_notes(&self, subscription: &Subscription, positions: &[Position]) {
        if let Some(store) = &self.store {
            // What stays is forgotten when its time is over.
            let _ = store.remove_notes(self.noted(subscription), positions).await;
        }
    }
}

fn newer(known: Option<Note>, found: store::Note) -> Note {
    let delivered = u16::try_from(found.delivered).unwrap_or(u16::MAX);
    match known {
        Some(known) if known.delivered >= delivered => known,
        _ => Note { delivered, tries: found.tries, due: known.and_then(|known| known.due) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::queue::Tries;

    #[test]
    fn the_later_note_holds() {
        let note = |delivered, due| Note { delivered, tries: Tries::default(), due };
        let found = |delivered| store::Note { delivered, tries: Tries::default() };
        assert_eq!(newer(None, found(3)), note(3, None));
        assert_eq!(newer(Some(note(3, None)), found(2)), note(3, None));
        assert_eq!(newer(Some(note(3, Some(Timestamp(5)))), found(4)), note(4, Some(Timestamp(5))));
    }
}

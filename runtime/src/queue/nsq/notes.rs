//! Notes of tries: what the server's count of deliveries does not tell (`tries.rs`), for whichever process gets the event next.

use super::shared::Shared;
use super::subscription::Subscription;
use super::tries::Note;
use crate::queue::Position;

impl Shared {
    /// Writes notes. Best effort: without them tries that were given back count.
    pub(super) async fn write_notes(&self, _subscription: &Subscription, _notes: &[(Position, Note)]) {}

    /// What is noted; `known` is what this process remembers.
    pub(super) async fn read_notes(
        &self,
        _subscription: &Subscription,
        _deliveries: &[(Position, u16)],
        known: Vec<Option<Note>>,
    ) -> Vec<Option<Note>> {
        known
    }

    /// Removes the notes of what has ended.
    pub(super) async fn remove_notes(&self, _subscription: &Subscription, _positions: &[Position]) {}
}

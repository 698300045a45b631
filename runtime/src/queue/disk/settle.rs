//! From lease to settlement: what is noted while an event runs, and what is handed to the writer once it has ended.

use super::DiskQueue;
use super::command::Command;
use crate::queue::{Position, QueueError, Settle, Settlement, Tries};

impl DiskQueue {
    pub(super) async fn settle_batch(&self, subscription: &str, batch: Vec<Settlement>) -> Result<Vec<Position>, QueueError> {
        let (returned, lasting): (Vec<_>, Vec<_>) = batch.into_iter().partition(|settlement| settlement.settle == Settle::Return);
        if !lasting.is_empty() {
            if lasting.iter().any(|settlement| settlement.settle != Settle::Ack) {
                let notes = self.shared.open()?.notes_of_retries(subscription, &lasting);
                self.shared.running.write(notes);
            }
            let subscription = subscription.to_owned();
            self.ask(|answer| Command::Settle { subscription, batch: lasting, answer }).await?;
        }
        if !returned.is_empty() {
            let seqs: Vec<u64> = returned.iter().filter_map(|settlement| u64::try_from(settlement.position.0).ok()).collect();
            // Cleared while they are still leased: nobody else gets their slots meanwhile.
            let slots = self.shared.open()?.slots_of(subscription, &seqs);
            self.shared.running.clear(slots);
            self.shared.open()?.give_back(subscription, &seqs);
            self.shared.changed.notify_waiters();
        }
        // Leases last as long as the process: none comes too late.
        Ok(Vec::new())
    }

    pub(super) fn note_tries(&self, subscription: &str, position: Position, tries: Tries) {
        let Ok(seq) = u64::try_from(position.0) else { return };
        let noted = self.shared.open().ok().and_then(|mut live| live.note(subscription, seq, tries));
        match noted {
            Some((Some(slot), note)) => self.shared.running.write([(slot, note)]),
            Some((None, _)) => self.shared.running.say("more events run than there is room for"),
            None => {}
        }
    }
}

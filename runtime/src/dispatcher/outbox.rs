//! What a handler published leaves before its event is acknowledged, or not at all (delivery.md §9).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Subscription;
use crate::outbox::{Destination, Published};
use crate::outcome::Outcome;
use crate::queue::{Publish, Queue, QueueError};

/// Least time that publishing gets, when the run has used up nearly all of its deadline: what it did should not be lost for milliseconds.
const LEAST: Duration = Duration::from_secs(1);

impl Subscription {
    /// Publishes, one batch for each queue; what has left before a failure leaves again with the next try, under the same ids.
    ///
    /// # Errors
    /// As the outcome that the run has instead of `done`.
    pub(super) async fn send(&self, published: Vec<Published>, left: Duration) -> Result<(), Outcome> {
        let mut batches: BTreeMap<String, Vec<Publish>> = BTreeMap::new();
        for Published { to, event, due } in published {
            let name = match to {
                Destination::Queue(name) => name,
                Destination::Own => self.queue_name.to_string(),
            };
            batches.entry(name).or_default().push(Publish { event, due });
        }
        let mut outlets = Vec::with_capacity(batches.len());
        for (name, batch) in batches {
            let outlet = self.outlet(&name)?;
            // What one of them could never hold must not be found out when others have theirs.
            if let Some(refused) = outlet.too_large(&batch) {
                return Err(failed(&name, &refused));
            }
            outlets.push((name, outlet, batch));
        }
        let sending = async {
            for (name, outlet, batch) in outlets {
                outlet.publish(batch).await.map_err(|error| failed(&name, &error))?;
            }
            Ok(())
        };
        tokio::time::timeout(left.max(LEAST), sending).await.unwrap_or_else(|_| {
            Err(Outcome::Host { reason: "publishing took longer than the deadline".to_owned(), limit: None, after: None })
        })
    }

    fn outlet(&self, name: &str) -> Result<Arc<dyn Queue>, Outcome> {
        let queue = if *name == *self.queue_name { Some(&self.queue) } else { self.shared.queues.get(name) };
        // Grants name queues that are configured, and configuration has checked that.
        queue.cloned().ok_or_else(|| Outcome::Reject { reason: format!("queue `{name}` is not open") })
    }
}

/// A queue that is away or full is an outside failure; an event that it could never hold is not.
fn failed(name: &str, error: &QueueError) -> Outcome {
    let reason = format!("publishing to queue `{name}`: {error}");
    match error {
        QueueError::TooLarge { .. } => Outcome::Reject { reason },
        _ => Outcome::Host { reason, limit: None, after: None },
    }
}

//! Dead letters as ordinary events in another queue (`dead = "NAME"`, delivery.md §7): for who has tools on a dead-letter topic. How an
//! event is marked when it goes there, and where it goes when it comes back. That queue is listed and emptied by its broker's own means.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::replay::{Readers, addressed};
use super::{DeadLetter, DeadLetters};
use crate::event::Event;
use crate::outbox::HANDLER;
use crate::queue::{BoxFuture, Publish, Queue, QueueError, Settle, Settlement, Start};
use crate::store::StoreError;

/// Weir's own attribute: why the event was given up.
pub const REASON: &str = "weirreason";
/// Weir's own attribute: the queue that it was given up in, and the handler that did, as `queue/handler`.
pub const ORIGIN: &str = "weirorigin";
/// Weir's own attribute: how many tries had counted.
pub const ATTEMPT: &str = "weirattempt";

/// Longest reason that is written, in characters: some brokers carry attributes as headers.
const REASON_MAX: usize = 1_024;

/// A queue is empty when nothing has come for so long.
const QUIET: Duration = Duration::from_secs(1);

/// Events taken at once.
const TAKEN_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99);

/// The event as it is put into the other queue. What has no room for the marks goes without them: the event is never lost.
fn marked(letter: &DeadLetter) -> Event {
    let mut event = (*letter.event).clone();
    event.extensions.retain(|(name, _)| name != HANDLER);
    let reason: String = letter.reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_MAX).collect();
    let marks =
        [(ORIGIN, format!("{}/{}", letter.queue, letter.handler)), (REASON, reason), (ATTEMPT, letter.attempts.to_string())];
    for (name, value) in marks {
        if let Err(error) = event.set(name, value) {
            tracing::warn!(queue = %letter.queue, event = %event.id, %error, "dead letter goes without an attribute");
        }
    }
    event
}

/// Puts dead letters into another queue. What that could never hold is kept where letters are kept.
///
/// # Errors
/// When it is away or full.
pub async fn put(queue: &dyn Queue, letters: &[&DeadLetter], otherwise: &dyn DeadLetters) -> Result<(), StoreError> {
    let away = |error: QueueError| StoreError::Unavailable(error.to_string());
    for letter in letters {
        match queue.publish(vec![Publish { event: Arc::new(marked(letter)), due: None }]).await {
            Err(QueueError::TooLarge { .. }) => otherwise.put(&[*letter]).await?,
            other => other.map_err(away)?,
        }
    }
    Ok(())
}

/// What a replay of a whole queue came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Risen {
    /// Events that went back to where they came from.
    pub replayed: u64,
    /// Events that stay, with why: at most [`Risen::LEFT_TOLD`] of them.
    pub left: Vec<Left>,
}

/// An event that stays.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Left {
    /// Its id.
    pub event: String,
    /// Why.
    pub error: String,
}

impl Risen {
    /// Most events that are told one by one.
    pub const LEFT_TOLD: usize = 100;
}

/// The queues of a server, by name.
pub type Queues = BTreeMap<String, Arc<dyn Queue>>;

/// Takes the events of a queue of dead letters one by one and publishes each where it came from, for the handler that gave it up. It reads
/// under a name of its own; that is removed again once nothing is left, and others read the queue.
///
/// # Errors
/// When the queue can't be read; what was published until then is replayed.
pub async fn replay_all(grave: &dyn Queue, name: &str, queues: &Queues, readers: &Readers) -> Result<Risen, QueueError> {
    grave.subscribe(name, Start::All).await?;
    let mut left = Vec::new();
    let risen = raise_all(grave, name, (queues, readers), &mut left).await;
    if !left.is_empty() {
        grave.settle(name, left).await?;
        return risen;
    }
    let risen = risen?;
    // What came since would go with the last subscription. While others read the queue, they have it as well.
    if grave.depth().await?.subscriptions.iter().any(|other| other.name != name) {
        grave.unsubscribe(name).await?;
    }
    Ok(risen)
}

/// What stays is added to `left`: held, so that it does not come again in this replay.
async fn raise_all(
    grave: &dyn Queue,
    name: &str,
    (queues, readers): (&Queues, &Readers),
    left: &mut Vec<Settlement>,
) -> Result<Risen, QueueError> {
    let mut risen = Risen::default();
    while let Ok(pulled) = tokio::time::timeout(QUIET, grave.pull(name, TAKEN_MAX)).await {
        let mut replayed = Vec::new();
        for delivery in pulled? {
            match raise(&delivery.event, queues, readers).await {
                Ok(()) => replayed.push(delivery.settle(Settle::Ack).1),
                Err(error) => {
                    if risen.left.len() < Risen::LEFT_TOLD {
                        risen.left.push(Left { event: delivery.event.id.clone(), error });
                    }
                    left.push(delivery.settle(Settle::Return).1);
                }
            }
        }
        risen.replayed += replayed.len() as u64;
        grave.settle(name, replayed).await?;
    }
    Ok(risen)
}

fn raise<'a>(event: &'a Event, queues: &'a Queues, readers: &'a Readers) -> BoxFuture<'a, Result<(), String>> {
    Box::pin(async move {
        let (queue, handler) = origin(event)?;
        let known = queues.get(queue).filter(|_| readers.reads(handler, queue));
        let known = known.ok_or_else(|| format!("handler `{handler}` does not read a queue `{queue}` by weir.toml"))?;
        let event = addressed(event, handler).map_err(|error| error.to_string())?;
        known.publish(vec![Publish { event: Arc::new(event), due: None }]).await.map_err(|error| error.to_string())
    })
}

fn origin(event: &Event) -> Result<(&str, &str), String> {
    let origin = event.extension(ORIGIN).ok_or_else(|| format!("it is no dead letter: it lacks the attribute `{ORIGIN}`"))?;
    origin.split_once('/').ok_or_else(|| format!("`{ORIGIN}` is `{origin}`, expected `queue/handler`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::queue::memory::MemoryQueue;

    fn letter(id: &str, handler: &str) -> DeadLetter {
        let event = Event { id: id.to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
        DeadLetter {
            id: id.to_owned(),
            handler: handler.to_owned(),
            queue: "events".to_owned(),
            reason: "no\nowner".to_owned(),
            outcome: Some("reject"),
            limit: None,
            attempts: 3,
            first_at: Timestamp(0),
            dead_at: Timestamp(0),
            version: None,
            event: Arc::new(event),
            log: String::new(),
            backtrace: Vec::new(),
        }
    }

    #[tokio::test]
    async fn there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(folder.path()).unwrap();
        let (grave, events) = (MemoryQueue::new("grave", 1 << 20), MemoryQueue::new("events", 1 << 20));
        let (one, other) = (letter("1", "mailer"), letter("2", "gone"));
        put(&*grave, &[&one, &other], &*store).await.unwrap();
        events.subscribe("weir-mailer", Start::All).await.unwrap();
        let readers = Readers::new([("mailer".to_owned(), vec!["events".to_owned()])]);
        let queues: Queues = [("events".to_owned(), Arc::clone(&events) as Arc<dyn Queue>)].into();

        let risen = replay_all(&*grave, "weir.replay", &queues, &readers).await.unwrap();
        assert_eq!((risen.replayed, risen.left.len()), (1, 1));
        assert!(risen.left[0].error.contains("`gone`"), "{risen:?}");
        let came = events.pull("weir-mailer", NonZeroUsize::MIN).await.unwrap();
        let marks: Vec<_> = came[0].event.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(marks, [(HANDLER, "mailer")]);
        // What stays is there for the next time, marked as it was.
        let left = grave.pull("weir.replay", NonZeroUsize::MIN).await.unwrap();
        let event = &left[0].event;
        let marks = [ORIGIN, REASON, ATTEMPT].map(|name| event.extension(name));
        assert_eq!(marks, [Some("events/gone"), Some("no owner"), Some("3")]);
    }

    /// A letter that is put there while a replay ends must not go with it.
    #[tokio::test]
    async fn what_comes_while_a_replay_ends_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(folder.path()).unwrap();
        let (grave, events) = (MemoryQueue::new("grave", 1 << 20), MemoryQueue::new("events", 1 << 20));
        let readers = Readers::new([("mailer".to_owned(), vec!["events".to_owned()])]);
        let queues: Queues = [("events".to_owned(), Arc::clone(&events) as Arc<dyn Queue>)].into();
        events.subscribe("weir-mailer", Start::All).await.unwrap();
        assert_eq!(replay_all(&*grave, "weir.replay", &queues, &readers).await.unwrap().replayed, 0);
        put(&*grave, &[&letter("1", "mailer")], &*store).await.unwrap();
        grave.subscribe("weir-tool", Start::New).await.unwrap();
        assert_eq!(replay_all(&*grave, "weir.replay", &queues, &readers).await.unwrap().replayed, 1);
        let names: Vec<_> = grave.depth().await.unwrap().subscriptions.into_iter().map(|known| known.name).collect();
        assert_eq!(names, ["weir-tool"], "with another reader, nothing is kept for replays alone");
    }
}

//! Replays over a memory queue and a real store.

use std::num::NonZeroUsize;

use super::*;
use crate::dead::DeadFilter;
use crate::queue::Start;
use crate::queue::memory::MemoryQueue;
use crate::store::Store;
use crate::store::tests::{letter as stored, recent};

fn letter(id: &str, handler: &str) -> DeadLetter {
    let mut event = Event { id: "1".to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    for (name, value) in [("tenant", "a"), ("weirattempt", "7"), ("weirhandler", "old"), ("weirorigin", "x"), ("weirreason", "y")]
    {
        event.set(name, value.to_owned()).unwrap();
    }
    let (handler, reason) = (handler.to_owned(), "no owner".to_owned());
    DeadLetter { handler, reason, outcome: Some("reject"), attempts: 8, event: Arc::new(event), ..stored(id, recent(0)) }
}

fn readers() -> Readers {
    let queues = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Readers::new([("audit".to_owned(), queues(&["orders"])), ("mailer".to_owned(), queues(&["events", "orders"]))])
}

#[test]
fn a_replay_goes_to_who_would_take_it() {
    let (mailer, old, audit) = (letter("1", "mailer"), letter("2", "old"), letter("3", "audit"));
    for (letter, to, expected) in [
        (&mailer, None, Ok("mailer")),
        (&old, Some("mailer"), Ok("mailer")),
        (&old, None, Err("handler `old` is not defined (known: `audit`, `mailer`; `--handler NAME` addresses another)")),
        (&mailer, Some("mailr"), Err("handler `mailr` is not defined (known: `audit`, `mailer`)")),
        (&audit, None, Err("handler `audit` does not read queue `events`, where the event goes (read by: `mailer`; `--handler")),
    ] {
        match (readers().address(letter, to), expected) {
            (Ok(handler), Ok(expected)) => assert_eq!(handler, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().starts_with(expected), "{error}"),
            (found, _) => panic!("{found:?}, expected {expected:?}"),
        }
    }
    let none = Readers::default().address(&mailer, None).unwrap_err();
    assert!(none.to_string().contains("known: none"), "{none}");
}

#[test]
fn what_weir_had_added_is_not_carried_along() {
    let event = addressed(&letter("1", "mailer").event, "mailer").unwrap();
    let expected = [("tenant", "a"), ("weirhandler", "mailer")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(event.extensions, expected);
    assert_eq!((event.id.as_str(), event.source.as_str()), ("1", "/s"));
    // An event with as many attributes of its own as there may be can still be addressed.
    let mut full = Event { id: "1".to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    for at in 0..crate::event::EXTENSIONS_MAX {
        full.set(&format!("x{at}"), "1".to_owned()).unwrap();
    }
    assert!(full.set("y", "1".to_owned()).is_err());
    let addressed = addressed(&full, "mailer").unwrap();
    assert_eq!(crate::event::json::read(&crate::event::json::write(&addressed)).unwrap(), addressed);
}

#[tokio::test]
async fn a_letter_goes_once_the_queue_holds_its_event() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).unwrap();
    let letters = &*store;
    let queue = MemoryQueue::new("events", 100_000);
    queue.subscribe("weir-mailer", Start::New).await.unwrap();
    let dead = letter("a", "mailer");
    store.put(&[&dead]).await.unwrap();
    assert_eq!(letters.counts().await.unwrap().queues["events"].held, 1);
    let found = letters.get("a").await.unwrap().unwrap();
    let replayed = replay(letters, &*queue, &found, "mailer").await.unwrap();
    let expected = Replayed { id: "a".to_owned(), queue: "events".to_owned(), handler: "mailer".to_owned() };
    assert_eq!(replayed, expected);
    assert!(letters.get("a").await.unwrap().is_none());
    let delivery = queue.pull("weir-mailer", NonZeroUsize::MIN).await.unwrap().remove(0);
    assert_eq!((delivery.event.extension("weirhandler"), delivery.tries.failed), (Some("mailer"), 0));

    store.put(&[&dead]).await.unwrap();
    queue.close().await;
    let error = replay(letters, &*queue, &dead, "mailer").await.unwrap_err();
    assert!(matches!(error, ReplayError::Publish { .. }) && error.to_string().contains("which stays"), "{error}");
    assert_eq!(letters.list(DeadFilter::default()).await.unwrap().letters.len(), 1);
}

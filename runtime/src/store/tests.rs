//! What every store has to keep, whatever it is over; and, in `store/embedded/tests.rs`, what is the file's own.

mod dead;
mod delays;
mod duplicates;

use std::collections::BTreeMap;

use super::*;
use crate::event::Event;

/// A store that can be opened again and, where it is shared, twice.
pub(super) trait Place {
    /// Opens it as the process `name`, with these bounds of dead letters.
    fn open(&self, name: &str, dead: BTreeMap<String, DeadBounds>) -> Arc<Store>;
}

/// One store in a folder.
pub(super) struct EmbeddedPlace(tempfile::TempDir);

impl EmbeddedPlace {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Place for EmbeddedPlace {
    fn open(&self, _: &str, dead: BTreeMap<String, DeadBounds>) -> Arc<Store> {
        Store::open_with(&Settings { data: self.0.path().to_owned(), dead, ..Settings::default() }).unwrap()
    }
}

/// A group of its own on a server that the tests share.
#[cfg(feature = "redis")]
pub(super) struct RedisPlace(&'static str);

#[cfg(feature = "redis")]
impl RedisPlace {
    pub(super) fn new(group: &'static str) -> Self {
        Self(group)
    }
}

#[cfg(feature = "redis")]
impl Place for RedisPlace {
    fn open(&self, name: &str, dead: BTreeMap<String, DeadBounds>) -> Arc<Store> {
        redis_store(&crate::redis::server::shared().url(0), self.0, name, dead)
    }
}

#[cfg(feature = "redis")]
pub(super) fn redis_store(url: &str, group: &str, name: &str, dead: BTreeMap<String, DeadBounds>) -> Arc<Store> {
    let url = StoreUrl::parse(url, Path::new("/")).unwrap();
    let settings = Settings { url, group: group.to_owned(), process: name.to_owned(), dead, ..Settings::default() };
    Store::open_with(&settings).unwrap()
}

/// Each scenario as a test over each kind of store.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&crate::store::tests::EmbeddedPlace::new()).await;
            })*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&crate::store::tests::RedisPlace::new(stringify!($name))).await;
            })*
        }
    };
}
pub(super) use scenarios;

pub(super) fn open(place: &dyn Place) -> Arc<Store> {
    place.open("one", BTreeMap::new())
}

pub(crate) fn letter(id: &str, dead_at: u64) -> DeadLetter {
    let event = Event { id: id.to_owned(), source: "/t".to_owned(), kind: "t".to_owned(), ..Event::default() };
    DeadLetter {
        id: id.to_owned(),
        handler: "mailer".to_owned(),
        queue: "events".to_owned(),
        reason: format!("because of {id}"),
        outcome: Some("trap"),
        limit: None,
        attempts: 2,
        first_at: Timestamp(dead_at - 1),
        dead_at: Timestamp(dead_at),
        version: None,
        event: Arc::new(event),
        log: "log".to_owned(),
        backtrace: vec!["frame".to_owned()],
    }
}

pub(crate) fn recent(seconds_ago: u64) -> u64 {
    clock::now().0 - seconds_ago * 1_000
}

scenarios!(mails_are_known_after_reopening_and_forgotten_after_their_time, pauses_are_known_after_reopening,);

async fn mails_are_known_after_reopening_and_forgotten_after_their_time(place: &dyn Place) {
    let now = clock::now();
    {
        let store = open(place);
        store.put_mail([7; 32], "<7@x>", now.after(Duration::from_secs(60))).await.unwrap();
        store.put_mail([9; 32], "<9@x>", Timestamp(now.0 - 1)).await.unwrap();
    }
    let store = open(place);
    assert_eq!(store.mail(&[7; 32], now).await.unwrap().as_deref(), Some("<7@x>"));
    assert_eq!(store.mail(&[8; 32], now).await.unwrap(), None);
    assert_eq!(store.mail(&[9; 32], now).await.unwrap(), None);
}

async fn pauses_are_known_after_reopening(place: &dyn Place) {
    {
        let store = open(place);
        assert!(store.pauses().await.unwrap().is_empty());
        for handler in ["a", "b", "b"] {
            store.set_pause(handler, true).await.unwrap();
        }
        store.set_pause("c", false).await.unwrap();
        store.set_pause("a", false).await.unwrap();
    }
    assert_eq!(open(place).pauses().await.unwrap(), BTreeSet::from(["b".to_owned()]));
}

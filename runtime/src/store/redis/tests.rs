//! The store over a real Redis server: shared by processes, away and back, and with what others did to its keys. The rest:
//! `store/tests.rs`.

use tokio::time::timeout;

use super::*;
use crate::dead::Unreadable;
use crate::redis::server::{Keeps, RedisServer, shared};
use crate::store::tests::{letter, recent, redis_store};
use crate::store::{EventKey, Store};

const LEASE: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(600);
/// Far above what a server on this machine needs.
const SOON: Duration = Duration::from_secs(30);

/// The same store as two processes have it.
fn two(group: &str) -> [Arc<Store>; 2] {
    ["one", "two"].map(|name| redis_store(&shared().url(0), group, name, BTreeMap::new()))
}

fn inner(store: &Store) -> &RedisStore {
    let crate::store::Backend::Redis(store) = &store.backend else { panic!("not in Redis") };
    store
}

fn at(id: u64, position: Option<u128>) -> Sighting {
    Sighting { key: EventKey::of("/s", &id.to_string()), position }
}

#[tokio::test]
async fn processes_share_what_they_keep() {
    let [one, two] = two("shared");
    let (now, later) = (clock::now(), clock::now().after(WINDOW));
    one.put_mail([1; 32], "<1@x>", later).await.unwrap();
    assert_eq!(two.mail(&[1; 32], now).await.unwrap().as_deref(), Some("<1@x>"));
    one.set_pause("mailer", true).await.unwrap();
    assert!(two.pauses().await.unwrap().contains("mailer"));
    one.put_dead(&letter("a", recent(1))).await.unwrap();
    assert!(two.remove_dead("a").await.unwrap());
    assert!(one.get_dead("a").await.unwrap().is_none());
    let elsewhere = redis_store(&shared().url(0), "another-group", "one", BTreeMap::new());
    assert_eq!(elsewhere.mail(&[1; 32], now).await.unwrap(), None, "installations do not meet");
    assert!(elsewhere.pauses().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_event_runs_in_one_process() {
    let [one, two] = two("claims");
    for position in [Some(1), None] {
        let id = u64::from(position.is_some());
        assert_eq!(one.claim("mailer", LEASE, &[at(id, position)]).await.unwrap(), [Claimed::Mine]);
        let again = two.claim("mailer", LEASE, &[at(id, position)]).await.unwrap();
        match position {
            Some(_) => assert_eq!(again, [Claimed::Mine], "the same delivery, which the broker gave to another process"),
            None => assert!(matches!(again[..], [Claimed::Taken { .. }]), "{again:?}"),
        }
        one.keep("mailer", WINDOW, &[at(id, position)]).await.unwrap();
        assert_eq!(two.claim("mailer", LEASE, &[at(id, Some(9))]).await.unwrap(), [Claimed::Seen]);
    }
}

#[tokio::test]
async fn more_deliveries_than_one_call_takes_are_answered_in_order() {
    let [one, two] = two("many-claims");
    let all: Vec<Sighting> = (0..2 * CALL_MAX as u64 + 7).map(|id| at(id, Some(u128::from(id)))).collect();
    let odd: Vec<Sighting> = all.iter().skip(1).step_by(2).copied().collect();
    one.keep("mailer", WINDOW, &odd).await.unwrap();
    let copies: Vec<Sighting> = all.iter().map(|one| Sighting { position: Some(u128::MAX), ..*one }).collect();
    let claimed = two.claim("mailer", LEASE, &copies).await.unwrap();
    let expected = |at: usize| if at % 2 == 1 { Claimed::Seen } else { Claimed::Mine };
    assert!(claimed.len() == all.len() && claimed.iter().enumerate().all(|(at, claimed)| *claimed == expected(at)));
    two.release("mailer", &copies).await.unwrap();
    assert_eq!(one.claim("mailer", LEASE, &all[..1]).await.unwrap(), [Claimed::Mine]);
}

#[tokio::test]
async fn the_oldest_that_ended_are_forgotten_when_there_are_too_many() {
    let [store, _] = two("crowded");
    let redis = inner(&store);
    for round in 0..10_u64 {
        let ended: Vec<_> = (round * 10..round * 10 + 10).map(|id| at(id, Some(u128::from(id)))).collect();
        redis.keep_within("mailer", WINDOW + Duration::from_secs(round), &ended, 50).await.unwrap();
    }
    let copies: Vec<_> = (0..100).map(|id| at(id, Some(u128::MAX))).collect();
    let claimed = store.claim("mailer", LEASE, &copies).await.unwrap();
    assert!(claimed[..50].iter().all(|claimed| *claimed == Claimed::Mine), "{claimed:?}");
    assert!(claimed[50..].iter().all(|claimed| *claimed == Claimed::Seen), "{claimed:?}");
}

#[tokio::test]
async fn a_rate_is_shared() {
    let stores = two("rate");
    let rate = Rate { count: 3, per: Duration::from_secs(3_600) };
    let take = |at: usize| {
        let store = Arc::clone(&stores[at % 2]);
        async move { store.turn("mailer", rate, Duration::from_secs(60)).await.unwrap().unwrap() }
    };
    for at in 0..3 {
        assert_eq!(take(at).await, Ok(Duration::ZERO));
    }
    for at in 0..2 {
        let wait = take(at).await.unwrap_err();
        assert!(wait > rate.per / 2 && wait <= rate.per, "{wait:?}");
    }
    let ahead = stores[0].turn("mailer", rate, rate.per).await.unwrap().unwrap().unwrap();
    assert!(ahead > rate.per / 2, "taken, and far ahead: {ahead:?}");
    assert_eq!(
        stores[0].turn("audit", rate, Duration::ZERO).await.unwrap(),
        Some(Ok(Duration::ZERO)),
        "each handler has its own"
    );
}

#[tokio::test]
async fn a_letter_that_cant_be_read_hides_no_other_and_can_be_removed() {
    let [store, _] = two("unreadable");
    for id in ["gone", "odd", "good"] {
        store.put_dead(&letter(id, recent(10))).await.unwrap();
    }
    let place = inner(&store).place("events");
    let entry = |id: &str| {
        let known = shared().ask(&["HGET", &format!("{}.ids", place.key()), id]);
        let known = known.split("\r\n").nth(1).unwrap_or_default().to_owned();
        serde_json::from_str::<serde_json::Value>(&known).unwrap()["entry"].as_str().unwrap().to_owned()
    };
    let (gone, odd) = (entry("gone"), entry("odd"));
    assert_eq!(shared().ask(&["XDEL", place.key(), &gone]), ":1\r\n");
    // An entry can't be changed: another one is put in its place.
    let other = shared().ask(&["XADD", place.key(), "*", "id", "odd", "letter", "{}"]);
    let other = other.split("\r\n").nth(1).unwrap_or_default().to_owned();
    let ids = format!("{}.ids", place.key());
    let text = shared().ask(&["HGET", &ids, "odd"]);
    let text = text.split("\r\n").nth(1).unwrap_or_default().replace(&odd, &other);
    assert_eq!(shared().ask(&["HSET", &ids, "odd", &text]), ":0\r\n");

    let page = store.list_dead(DeadFilter::default()).await.unwrap();
    assert_eq!((page.letters.len(), page.next), (1, None));
    let why = |id: &str| page.unreadable.iter().find(|one| one.id == id).map(|one: &Unreadable| one.reason.clone()).unwrap();
    assert!(why("gone").contains("gone from the stream") && why("odd").contains("missing field"), "{:?}", page.unreadable);
    let error = store.get_dead("gone").await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(text) if text.contains("`gone`")), "{error:?}");
    for id in ["gone", "odd"] {
        assert!(store.remove_dead(id).await.unwrap());
    }
    let page = store.list_dead(DeadFilter::default()).await.unwrap();
    assert_eq!((page.letters.len(), page.unreadable.len()), (1, 0));
}

#[tokio::test]
async fn lists_go_on_over_more_letters_than_one_call_looks_at() {
    let [store, _] = two("many-letters");
    let time = recent(60);
    let letters: Vec<DeadLetter> = (0..2 * CALL_MAX as u64 + CALL_MAX as u64 / 2)
        .map(|number| {
            let mut letter = letter(&format!("{number:05}"), time + number % 3);
            letter.handler = if number % 500 == 0 { "rare".to_owned() } else { "mailer".to_owned() };
            letter
        })
        .collect();
    store.put(&letters.iter().collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.dead_counts().await.unwrap().queues["events"].held, letters.len() as u64);
    let rare = DeadFilter { handler: Some("rare".to_owned()), ..DeadFilter::default() };
    let page = store.list_dead(rare).await.unwrap();
    assert_eq!((page.letters.len(), page.next.is_none()), (letters.len().div_ceil(500), true));
    let (mut filter, mut found) = (DeadFilter { max: Some(301), ..DeadFilter::default() }, Vec::new());
    loop {
        let page = store.list_dead(filter.clone()).await.unwrap();
        found.extend(page.letters.into_iter().map(|letter| (letter.dead_at, letter.id)));
        let Some(next) = page.next else { break };
        filter.before = Some(next);
    }
    let mut expected: Vec<_> = letters.iter().map(|letter| (letter.dead_at, letter.id.clone())).collect();
    expected.sort();
    expected.reverse();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_server_that_restarts_is_away_and_then_answers_again() {
    let mut server = RedisServer::start(Keeps::Always, &[]);
    let store = redis_store(&server.url(0), "weir", "one", BTreeMap::new());
    store.put_dead(&letter("a", recent(10))).await.unwrap();
    store.set_pause("mailer", true).await.unwrap();
    assert_eq!(store.claim("mailer", LEASE, &[at(1, Some(1))]).await.unwrap(), [Claimed::Mine]);
    server.kill();
    let calls = async {
        for _ in 0..20 {
            let error = store.mail(&[1; 32], clock::now()).await.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
            assert!(store.put_dead(&letter("b", recent(5))).await.is_err());
            assert!(store.claim("mailer", LEASE, &[at(2, Some(2))]).await.is_err());
        }
    };
    timeout(SOON, calls).await.expect("calls fail in time");
    server.start_again();
    let healed = async {
        while store.put_dead(&letter("b", recent(5))).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, healed).await.expect("it heals by itself");
    assert_eq!(store.dead_counts().await.unwrap().queues["events"].held, 2, "and has kept what was answered");
    assert!(store.pauses().await.unwrap().contains("mailer"));
    let copy = store.claim("mailer", LEASE, &[at(1, Some(2))]).await.unwrap();
    assert!(matches!(copy[..], [Claimed::Taken { .. }]), "{copy:?}");
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let mut server = RedisServer::start(Keeps::Nothing, &[]);
    server.kill();
    let store = redis_store(&server.url(0), "weir", "one", BTreeMap::new());
    assert!(matches!(store.pauses().await, Err(StoreError::Unavailable(_))));
    server.start_again();
    let healed = async {
        while store.pauses().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, healed).await.expect("it heals by itself");
}

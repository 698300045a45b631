//! Dead letters in every kind of store.

use super::*;

async fn ids(store: &Store, filter: DeadFilter) -> Vec<String> {
    store.list_dead(filter).await.unwrap().letters.into_iter().map(|letter| letter.id).collect()
}

scenarios!(
    what_was_answered_is_there_after_reopening,
    lists_are_filtered_newest_first,
    pages_follow_each_other,
    the_same_id_replaces_itself,
    one_is_removed_by_its_id,
    the_oldest_of_a_queue_go_first_and_are_counted,
    a_letter_larger_than_all_that_is_kept_is_kept,
    a_letter_too_large_loses_log_and_backtrace_never_the_event,
);

async fn what_was_answered_is_there_after_reopening(place: &dyn Place) {
    open(place).put_dead(&letter("a", recent(10))).await.unwrap();
    let store = open(place);
    let found = store.get_dead("a").await.unwrap().unwrap();
    assert_eq!(format!("{found:?}"), format!("{:?}", letter("a", found.dead_at.0)));
    assert!(store.get_dead("b").await.unwrap().is_none());
    let count = store.dead_counts().await.unwrap().queues["events"];
    assert_eq!((count.held, count.dropped), (1, 0));
}

async fn lists_are_filtered_newest_first(place: &dyn Place) {
    let store = open(place);
    for (at, id) in ["a", "b", "c"].iter().enumerate() {
        let mut letter = letter(id, recent(100 - 10 * at as u64));
        letter.handler = format!("handler-{id}");
        store.put_dead(&letter).await.unwrap();
    }
    let mut elsewhere = letter("d", recent(5));
    (elsewhere.queue, elsewhere.outcome) = ("other".to_owned(), Some("fuel"));
    store.put_dead(&elsewhere).await.unwrap();
    let of = |filter: DeadFilter| ids(&store, filter);
    assert_eq!(of(DeadFilter::default()).await, ["d", "c", "b", "a"]);
    assert_eq!(of(DeadFilter { queue: Some("other".into()), ..DeadFilter::default() }).await, ["d"]);
    assert_eq!(of(DeadFilter { queue: Some("nowhere".into()), ..DeadFilter::default() }).await, [""; 0]);
    assert_eq!(of(DeadFilter { handler: Some("handler-b".into()), ..DeadFilter::default() }).await, ["b"]);
    assert_eq!(of(DeadFilter { reason: Some("of c".into()), ..DeadFilter::default() }).await, ["c"]);
    assert_eq!(of(DeadFilter { reason: Some("fuel".into()), ..DeadFilter::default() }).await, ["d"]);
    assert_eq!(of(DeadFilter { older_than: Some(Timestamp(recent(85))), ..DeadFilter::default() }).await, ["b", "a"]);
}

async fn pages_follow_each_other(place: &dyn Place) {
    let (store, at) = (open(place), recent(60));
    // Three at each time: a page may end among them.
    for number in 0..10u64 {
        store.put_dead(&letter(&format!("{number:02}"), at + number / 3)).await.unwrap();
    }
    let mut other = letter("other", at + 1);
    other.handler = "audit".to_owned();
    store.put_dead(&other).await.unwrap();
    for size in [1, 2, 4, 10, 11] {
        let mut filter = DeadFilter { handler: Some("mailer".to_owned()), max: Some(size), ..DeadFilter::default() };
        let mut found = Vec::new();
        loop {
            let page = store.list_dead(filter.clone()).await.unwrap();
            assert!(page.letters.len() <= size, "{size}");
            found.extend(page.letters.into_iter().map(|letter| letter.id));
            let Some(next) = page.next else { break };
            filter.before = Some(next.to_string().parse().unwrap());
        }
        let expected: Vec<String> = (0..10).rev().map(|number| format!("{number:02}")).collect();
        assert_eq!(found, expected, "{size}");
    }
}

async fn the_same_id_replaces_itself(place: &dyn Place) {
    let store = open(place);
    store.put_dead(&letter("a", recent(20))).await.unwrap();
    let before = store.dead_counts().await.unwrap();
    assert_eq!(before.queues["events"].held, 1);
    store.put_dead(&letter("a", recent(10))).await.unwrap();
    assert_eq!(ids(&store, DeadFilter::default()).await, ["a"]);
    assert_eq!(store.dead_counts().await.unwrap(), before);
}

async fn one_is_removed_by_its_id(place: &dyn Place) {
    let store = open(place);
    let (a, b) = (letter("a", recent(20)), letter("b", recent(10)));
    store.put(&[&a, &b]).await.unwrap();
    assert!(store.remove_dead("a").await.unwrap());
    assert!(!store.remove_dead("a").await.unwrap(), "there is none any more");
    assert!(store.get_dead("a").await.unwrap().is_none());
    assert_eq!(ids(&store, DeadFilter::default()).await, ["b"]);
    let count = store.dead_counts().await.unwrap().queues["events"];
    assert_eq!((count.held, count.dropped), (1, 0), "removed by hand is not dropped");
}

async fn the_oldest_of_a_queue_go_first_and_are_counted(place: &dyn Place) {
    let bounds = |keep, bytes| BTreeMap::from([("events".to_owned(), DeadBounds { keep: Duration::from_secs(keep), bytes })]);
    let size = {
        let store = place.open("one", bounds(60, 1 << 20));
        store.put_dead(&letter("a", recent(50))).await.unwrap();
        store.dead_counts().await.unwrap().queues["events"].bytes
    };
    let store = place.open("one", bounds(60, 3 * size));
    for (id, ago) in [("b", 40), ("c", 30), ("d", 20)] {
        store.put_dead(&letter(id, recent(ago))).await.unwrap();
    }
    let mut elsewhere = letter("x", recent(55));
    elsewhere.queue = "other".to_owned();
    store.put_dead(&elsewhere).await.unwrap();
    assert_eq!(ids(&store, DeadFilter::default()).await, ["d", "c", "b", "x"], "the bound of one queue is not another's");
    let count = store.dead_counts().await.unwrap().queues["events"];
    assert_eq!((count.held, count.bytes, count.dropped), (3, 3 * size, 1));
    store.put_dead(&letter("e", recent(61))).await.unwrap();
    assert_eq!(ids(&store, DeadFilter::default()).await, ["d", "c", "b", "x"], "older than it is kept");
    drop(store);
    let store = place.open("one", bounds(25, 3 * size));
    let held = store.dead_counts().await.unwrap().queues["events"];
    assert_eq!((held.held, held.bytes), (1, size), "what has become too old goes at start");
    assert_eq!(ids(&store, DeadFilter { queue: Some("events".into()), ..DeadFilter::default() }).await, ["d"]);
}

async fn a_letter_larger_than_all_that_is_kept_is_kept(place: &dyn Place) {
    let bounds = DeadBounds { bytes: 1_000, ..DeadBounds::default() };
    let store = place.open("one", BTreeMap::from([("events".to_owned(), bounds)]));
    for (id, ago) in [("small", 30), ("large", 20), ("largest", 10)] {
        let mut letter = letter(id, recent(ago));
        if id != "small" {
            letter.log = "x".repeat(2_000);
            letter.event = Arc::new(Event { source: "s".repeat(2_000), ..(*letter.event).clone() });
        }
        store.put_dead(&letter).await.unwrap();
        assert_eq!(ids(&store, DeadFilter::default()).await, [id]);
        assert_eq!(store.get_dead(id).await.unwrap().unwrap().log.is_empty(), id != "small");
    }
    assert_eq!(store.dead_counts().await.unwrap().queues["events"].dropped, 2);
}

async fn a_letter_too_large_loses_log_and_backtrace_never_the_event(place: &dyn Place) {
    let store = open(place);
    let mut large = letter("a", recent(1));
    large.log = "x".repeat(DEAD_LETTER_BYTES_MAX);
    store.put_dead(&large).await.unwrap();
    let found = store.get_dead("a").await.unwrap().unwrap();
    assert_eq!((found.log.as_str(), found.backtrace.len()), ("", 0));
    let event = Event { data: Some("y".repeat(DEAD_LETTER_BYTES_MAX).into()), ..(*large.event).clone() };
    large.event = Arc::new(Event { datacontenttype: Some("text/plain".to_owned()), ..event });
    store.put_dead(&large).await.unwrap();
    assert_eq!(store.get_dead("a").await.unwrap().unwrap().event, large.event);
}

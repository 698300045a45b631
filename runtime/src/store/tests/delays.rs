//! What waits for its time, and notes of tries, in every kind of store.

use super::*;
use crate::queue::{Position, Tries};
use crate::store::delays::DelayRow;

const LEASE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_secs(10);

fn lease(holder: u64) -> DelayLease {
    DelayLease { holder, length: LEASE }
}

fn tries(failed: u32) -> Tries {
    Tries { failed, outside: 2, outside_since: Some(Timestamp(77)) }
}

fn item(id: &str, due: Timestamp) -> Delayed {
    let event = Event { id: id.to_owned(), source: "/t".to_owned(), kind: "t".to_owned(), ..Event::default() };
    Delayed { id: DelayId::new(), event: Arc::new(event), due, first_seen: Timestamp(5), tries: tries(1) }
}

fn ids(items: &[Delayed]) -> Vec<&str> {
    items.iter().map(|item| item.event.id.as_str()).collect()
}

fn shelf() -> Shelf {
    Shelf::retries("events", "weir-mailer")
}

async fn claim(store: &Store, shelf: &Shelf, lease: DelayLease) -> Vec<Delayed> {
    store.claim_delayed(shelf, lease, 100).await.unwrap().items
}

/// Claims until something comes.
async fn claim_soon(store: &Store, shelf: &Shelf, lease: DelayLease) -> Vec<Delayed> {
    let came = async {
        loop {
            let items = claim(store, shelf, lease).await;
            if !items.is_empty() {
                return items;
            }
        }
    };
    tokio::time::timeout(SOON, came).await.unwrap()
}

async fn change(store: &Store, holder: u64, item: &Delayed, change: DelayChange) -> Vec<DelayId> {
    store.change_delayed(&shelf(), holder, &[(item.id, change)]).await.unwrap()
}

scenarios!(
    what_is_due_comes_earliest_first_and_once,
    the_next_time_is_told,
    shelves_do_not_meet_and_are_forgotten_alone,
    what_was_lost_comes_again_with_a_try_more,
    notes_and_settlements_say_what_is_behind,
    a_publish_that_was_lost_has_no_tries,
    what_another_has_claimed_is_not_ours_to_change,
    a_lease_is_renewed_and_told_when_it_is_gone,
    what_waits_is_known_after_reopening,
    the_same_number_again_replaces,
    a_claim_is_bounded,
    what_waits_is_bounded_and_taken_whole_or_not_at_all,
    notes_are_kept_under_their_position,
);

async fn what_is_due_comes_earliest_first_and_once(place: &dyn Place) {
    let (store, now) = (open(place), clock::now());
    let later = now.after(Duration::from_millis(150));
    let items =
        [("b", Timestamp(20)), ("a", Timestamp(10)), ("far", now.after(LEASE)), ("c", later)].map(|(id, due)| item(id, due));
    store.delay(&shelf(), &items).await.unwrap();
    let came = store.claim_delayed(&shelf(), lease(1), 1).await.unwrap().items;
    assert_eq!(came, [items[1].clone()], "the earliest, as it was put");
    assert_eq!(ids(&claim(&store, &shelf(), lease(2)).await), ["b"]);
    let came = claim_soon(&store, &shelf(), lease(2)).await;
    assert!(clock::now() >= later);
    assert_eq!(ids(&came), ["c"]);
    for holder in [1, 2] {
        assert_eq!(claim(&store, &shelf(), lease(holder)).await, [], "claimed, or not due");
    }
}

async fn the_next_time_is_told(place: &dyn Place) {
    let (store, now) = (open(place), clock::now());
    assert_eq!(store.claim_delayed(&shelf(), lease(1), 9).await.unwrap(), Due::default());
    let (soon, late) = (now.after(LEASE / 2), now.after(LEASE * 9));
    store.delay(&shelf(), &[item("late", late), item("due", Timestamp(1))]).await.unwrap();
    let due = store.claim_delayed(&shelf(), lease(1), 9).await.unwrap();
    assert_eq!((ids(&due.items), due.items.len()), (vec!["due"], 1));
    let next = store.claim_delayed(&shelf(), lease(2), 9).await.unwrap().next.unwrap();
    assert!(next > now.after(LEASE / 2) && next < late, "when the lease of another ends: {next}");
    change(&store, 1, &due.items[0], DelayChange::Remove).await;
    assert_eq!(store.claim_delayed(&shelf(), lease(2), 9).await.unwrap().next, Some(late));
    store.delay(&shelf(), &[item("soon", soon)]).await.unwrap();
    assert_eq!(store.claim_delayed(&shelf(), lease(2), 9).await.unwrap().next, Some(soon));
}

async fn shelves_do_not_meet_and_are_forgotten_alone(place: &dyn Place) {
    let store = open(place);
    let shelves =
        [shelf(), Shelf::publishes("events"), Shelf::retries("events", "weir-audit"), Shelf::retries("other", "weir-mailer")];
    for (at, shelf) in shelves.iter().enumerate() {
        let items: Vec<_> = (0..=at).map(|_| item(&format!("of-{at}"), Timestamp(1))).collect();
        store.delay(shelf, &items).await.unwrap();
    }
    for (at, shelf) in shelves.iter().enumerate() {
        assert_eq!(ids(&store.claim_delayed(shelf, lease(1), 1).await.unwrap().items), [format!("of-{at}")]);
    }
    let counts = async || {
        let mut counts = store.delayed("events").await.unwrap();
        counts.sort_by(|a, b| a.subscription.cmp(&b.subscription));
        counts.into_iter().map(|count| (count.subscription, count.events, count.claimed, count.bytes > 400)).collect::<Vec<_>>()
    };
    let count = |name: Option<&str>, events| (name.map(str::to_owned), events, 1, true);
    assert_eq!(counts().await, [count(None, 2), count(Some("weir-audit"), 3), count(Some("weir-mailer"), 1)]);
    assert_eq!(store.forget_delayed(&shelves[2]).await.unwrap(), 3);
    assert_eq!(store.forget_delayed(&shelves[2]).await.unwrap(), 0);
    assert_eq!(counts().await, [count(None, 2), count(Some("weir-mailer"), 1)]);
    assert_eq!(store.delayed("other").await.unwrap().len(), 1);
    assert_eq!(store.delayed("event").await.unwrap(), []);
}

async fn what_was_lost_comes_again_with_a_try_more(place: &dyn Place) {
    let store = open(place);
    store.delay(&shelf(), &[item("a", Timestamp(1))]).await.unwrap();
    for lost in 0..3 {
        let came = claim_soon(&store, &shelf(), DelayLease { holder: lost, length: SHORT }).await;
        assert_eq!(came[0].tries, tries(1 + u32::try_from(lost).unwrap()));
    }
}

async fn notes_and_settlements_say_what_is_behind(place: &dyn Place) {
    let store = open(place);
    store.delay(&shelf(), &[item("a", Timestamp(1))]).await.unwrap();
    let short = DelayLease { holder: 1, length: SHORT };
    let came = claim(&store, &shelf(), short).await;
    change(&store, 1, &came[0], DelayChange::Note(tries(6))).await;
    let came = claim_soon(&store, &shelf(), short).await;
    assert_eq!(came[0].tries, tries(6), "it was lost after the note");
    let due = clock::now().after(SHORT);
    change(&store, 1, &came[0], DelayChange::PutBack { due, tries: tries(3) }).await;
    let came = claim_soon(&store, &shelf(), lease(1)).await;
    assert!(clock::now() >= due);
    assert_eq!((came[0].tries, came[0].due, came[0].first_seen), (tries(3), due, Timestamp(5)));
    change(&store, 1, &came[0], DelayChange::Remove).await;
    assert_eq!(change(&store, 1, &came[0], DelayChange::Remove).await, [], "repeated");
    assert_eq!(store.delayed("events").await.unwrap(), [], "not a byte is left");
}

async fn a_publish_that_was_lost_has_no_tries(place: &dyn Place) {
    let (store, shelf) = (open(place), Shelf::publishes("events"));
    store.delay(&shelf, &[item("a", Timestamp(1))]).await.unwrap();
    for holder in 0..3 {
        let came = claim_soon(&store, &shelf, DelayLease { holder, length: SHORT }).await;
        assert_eq!(came[0].tries, tries(1));
    }
}

async fn what_another_has_claimed_is_not_ours_to_change(place: &dyn Place) {
    let store = open(place);
    store.delay(&shelf(), &[item("a", Timestamp(1))]).await.unwrap();
    let lost = claim(&store, &shelf(), DelayLease { holder: 1, length: SHORT }).await;
    let came = claim_soon(&store, &shelf(), lease(2)).await;
    for late in [DelayChange::Remove, DelayChange::Note(tries(9)), DelayChange::PutBack { due: Timestamp(1), tries: tries(9) }] {
        assert_eq!(change(&store, 1, &lost[0], late).await, [came[0].id]);
    }
    assert_eq!(claim(&store, &shelf(), lease(3)).await, []);
    assert_eq!(change(&store, 2, &came[0], DelayChange::Remove).await, []);
    assert_eq!(store.delayed("events").await.unwrap(), []);
}

async fn a_lease_is_renewed_and_told_when_it_is_gone(place: &dyn Place) {
    let store = open(place);
    store.delay(&shelf(), &[item("a", Timestamp(1)), item("b", Timestamp(2))]).await.unwrap();
    let short = DelayLease { holder: 1, length: Duration::from_millis(300) };
    let came = claim(&store, &shelf(), short).await;
    assert_eq!(store.renew_delayed(&shelf(), lease(1), &[came[0].id]).await.unwrap(), []);
    let others = claim_soon(&store, &shelf(), lease(2)).await;
    assert_eq!(ids(&others), ["b"], "the one that was not renewed");
    let both = [came[0].id, came[1].id];
    assert_eq!(store.renew_delayed(&shelf(), lease(1), &both).await.unwrap(), [came[1].id]);
    assert_eq!(store.renew_delayed(&shelf(), lease(3), &both).await.unwrap(), both);
}

async fn what_waits_is_known_after_reopening(place: &dyn Place) {
    let items = [item("a", Timestamp(1)), item("b", clock::now().after(LEASE))];
    {
        let store = open(place);
        store.delay(&shelf(), &items).await.unwrap();
    }
    let store = open(place);
    assert_eq!(claim(&store, &shelf(), lease(1)).await, items[..1]);
    let counts = store.delayed("events").await.unwrap();
    assert_eq!(counts.iter().map(|count| (count.events, count.claimed)).collect::<Vec<_>>(), [(2, 1)]);
}

async fn the_same_number_again_replaces(place: &dyn Place) {
    let store = open(place);
    let mut one = item("a", clock::now().after(LEASE));
    store.delay(&shelf(), std::slice::from_ref(&one)).await.unwrap();
    let before = store.delayed("events").await.unwrap();
    (one.due, one.tries) = (Timestamp(1), tries(4));
    store.delay(&shelf(), std::slice::from_ref(&one)).await.unwrap();
    assert_eq!(store.delayed("events").await.unwrap(), before);
    assert_eq!(claim(&store, &shelf(), lease(1)).await, [one]);
}

async fn a_claim_is_bounded(place: &dyn Place) {
    let store = open(place);
    let large = |id: &str| {
        let mut item = item(id, Timestamp(1));
        let event = Arc::make_mut(&mut item.event);
        event.datacontenttype = Some("text/plain".to_owned());
        event.data = Some(vec![b'1'; 3 << 20].into());
        item
    };
    store.delay(&shelf(), &["a", "b", "c"].map(large)).await.unwrap();
    let due = store.claim_delayed(&shelf(), lease(1), 9).await.unwrap();
    assert_eq!(ids(&due.items), ["a", "b"], "what was begun, and no more");
    assert_eq!(due.next, Some(Timestamp(1)), "there is more now");
    assert_eq!(ids(&claim(&store, &shelf(), lease(1)).await), ["c"]);
}

async fn notes_are_kept_under_their_position(place: &dyn Place) {
    let of = |queue| Noted { queue, subscription: "weir-mailer" };
    let note = Note { delivered: 3, tries: tries(1) };
    let other = Note { delivered: 9, ..note };
    let top = Position(u128::MAX);
    {
        let store = open(place);
        store.write_notes(of("events"), &[(Position(1), other), (top, note)]).await.unwrap();
        store.write_notes(of("events"), &[(Position(1), note), (Position(2), note)]).await.unwrap();
        store.write_notes(of("other"), &[(Position(1), other)]).await.unwrap();
        store.write_notes_until(of("events"), &[(Position(3), note)], Timestamp(1)).await.unwrap();
        store.remove_notes(of("events"), &[Position(2), Position(4)]).await.unwrap();
    }
    let store = open(place);
    let forgotten = async { while store.notes(of("events"), &[Position(3)]).await.unwrap() != [None] {} };
    tokio::time::timeout(SOON, forgotten).await.unwrap();
    let read = store.notes(of("events"), &[top, Position(1), Position(2), Position(4)]).await.unwrap();
    assert_eq!(read, [Some(note), Some(note), None, None]);
    assert_eq!(store.notes(of("other"), &[Position(1), top]).await.unwrap(), [Some(other), None]);
}

async fn what_waits_is_bounded_and_taken_whole_or_not_at_all(place: &dyn Place) {
    let store = open(place);
    let put = async |items: &[Delayed], bounds: (u64, u64)| {
        let rows: Vec<_> = items.iter().map(|item| DelayRow::new(item).unwrap()).collect();
        match &store.backend {
            Backend::Embedded(store) => store.delay(&shelf(), rows, bounds).await,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.delay(&shelf(), &rows, bounds).await,
        }
    };
    let items: Vec<_> = (0..3).map(|_| item("a", Timestamp(1))).collect();
    put(&items[..1], (2, 10_000)).await.unwrap();
    let bytes = store.delayed("events").await.unwrap()[0].bytes;
    assert!(bytes > DELAY_OVERHEAD_BYTES && bytes < 2 * DELAY_OVERHEAD_BYTES, "{bytes}");
    let full = Err(DelayError::Full { events: 1, bytes });
    assert_eq!(put(&items[1..], (2, 10_000)).await, full);
    assert_eq!(put(&items[1..2], (2, 2 * bytes - 1)).await, full);
    assert_eq!(put(&items[1..2], (2, 2 * bytes)).await, Ok(()));
    let came = claim(&store, &shelf(), lease(1)).await;
    assert_eq!(came.len(), 2);
    assert!(put(&items[2..], (2, 10_000)).await.is_err(), "what is claimed counts too");
    change(&store, 1, &came[0], DelayChange::Remove).await;
    assert_eq!(put(&items[2..], (2, 2 * bytes)).await, Ok(()));
    // More than one call takes: none of it stays.
    let many: Vec<_> = (0..1_200).map(|_| item("a", Timestamp(1))).collect();
    assert!(put(&many, (1_000, 1 << 30)).await.is_err());
    assert_eq!(store.delayed("events").await.unwrap()[0].events, 2);
}

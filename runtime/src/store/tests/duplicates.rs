//! Duplicates in every kind of store.

use super::*;

const LEASE: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(600);

fn at(id: &str, position: u128) -> Sighting {
    Sighting { key: EventKey::of("/s", id), position: Some(position) }
}

async fn claim(store: &Store, delivery: Sighting) -> Claimed {
    store.claim("mailer", LEASE, &[delivery]).await.unwrap()[0]
}

scenarios!(
    the_first_runs_and_a_copy_waits_then_is_a_duplicate,
    a_release_lets_the_copy_run,
    a_delivery_is_never_a_duplicate_of_itself,
    a_claim_lapses_with_its_lease_and_is_renewed,
    what_ended_is_known_after_reopening_and_forgotten_after_the_window,
    handlers_and_events_do_not_meet,
    a_delivery_without_position_is_its_process,
    of_many_copies_at_once_one_runs,
);

async fn the_first_runs_and_a_copy_waits_then_is_a_duplicate(place: &dyn Place) {
    let store = open(place);
    let before = clock::now();
    let both = store.claim("mailer", LEASE, &[at("1", 1), at("1", 2)]).await.unwrap();
    assert_eq!(both[0], Claimed::Mine);
    let Claimed::Taken { until } = both[1] else { panic!("{both:?}") };
    assert!(until >= before.after(LEASE / 2) && until <= clock::now().after(LEASE * 2), "{until}");
    store.keep("mailer", WINDOW, &[at("1", 1)]).await.unwrap();
    assert_eq!(claim(&store, at("1", 2)).await, Claimed::Seen);
}

async fn a_release_lets_the_copy_run(place: &dyn Place) {
    let store = open(place);
    assert_eq!(claim(&store, at("1", 1)).await, Claimed::Mine);
    store.release("mailer", &[at("1", 2), at("2", 1)]).await.unwrap();
    assert!(matches!(claim(&store, at("1", 2)).await, Claimed::Taken { .. }), "not its own to release");
    store.release("mailer", &[at("1", 1)]).await.unwrap();
    assert_eq!(claim(&store, at("1", 2)).await, Claimed::Mine);
}

async fn a_delivery_is_never_a_duplicate_of_itself(place: &dyn Place) {
    let store = open(place);
    for _ in 0..2 {
        assert_eq!(claim(&store, at("1", 1)).await, Claimed::Mine);
    }
    store.keep("mailer", WINDOW, &[at("1", 1)]).await.unwrap();
    assert_eq!(claim(&store, at("1", 1)).await, Claimed::Mine, "its ack was lost");
    assert_eq!(claim(&store, at("1", 2)).await, Claimed::Seen, "and what was kept still stands");
    store.release("mailer", &[at("1", 1)]).await.unwrap();
    assert_eq!(claim(&store, at("1", 2)).await, Claimed::Seen);
}

async fn a_claim_lapses_with_its_lease_and_is_renewed(place: &dyn Place) {
    let store = open(place);
    let short = Duration::from_millis(20);
    assert_eq!(store.claim("mailer", short, &[at("1", 1)]).await.unwrap(), [Claimed::Mine]);
    let waited = async { while claim(&store, at("1", 2)).await != Claimed::Mine {} };
    tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap();
    store.claim("mailer", short, &[at("2", 1)]).await.unwrap();
    let renewed = claim(&store, at("2", 1)).await;
    assert_eq!(renewed, Claimed::Mine);
    let Claimed::Taken { until } = claim(&store, at("2", 2)).await else { panic!("free") };
    assert!(until > clock::now().after(LEASE / 2));
}

async fn what_ended_is_known_after_reopening_and_forgotten_after_the_window(place: &dyn Place) {
    {
        let store = open(place);
        store.keep("mailer", WINDOW, &[at("1", 1), at("2", 2)]).await.unwrap();
        store.keep("mailer", Duration::from_millis(1), &[at("3", 3)]).await.unwrap();
    }
    let store = open(place);
    assert_eq!(claim(&store, at("1", 9)).await, Claimed::Seen);
    assert_eq!(claim(&store, at("2", 9)).await, Claimed::Seen);
    let forgotten = async { while claim(&store, at("3", 9)).await != Claimed::Mine {} };
    tokio::time::timeout(Duration::from_secs(10), forgotten).await.unwrap();
}

async fn handlers_and_events_do_not_meet(place: &dyn Place) {
    let store = open(place);
    assert_eq!(claim(&store, at("1", 1)).await, Claimed::Mine);
    assert_eq!(store.claim("audit", LEASE, &[at("1", 2)]).await.unwrap(), [Claimed::Mine]);
    assert_eq!(claim(&store, at("2", 2)).await, Claimed::Mine);
    assert_ne!(EventKey::of("/s", "1"), EventKey::of("/", "s1"));
}

async fn a_delivery_without_position_is_its_process(place: &dyn Place) {
    let store = open(place);
    let nowhere = Sighting { key: EventKey::of("/s", "1"), position: None };
    assert_eq!(claim(&store, nowhere).await, Claimed::Mine);
    assert_eq!(claim(&store, nowhere).await, Claimed::Mine, "perhaps it is the same delivery again");
    store.keep("mailer", WINDOW, &[nowhere]).await.unwrap();
    assert_eq!(claim(&store, nowhere).await, Claimed::Seen, "what has ended has ended");
}

async fn of_many_copies_at_once_one_runs(place: &dyn Place) {
    let store = open(place);
    let copies = (0..50u128).map(|position| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let claimed = claim(&store, at("1", position)).await;
            if claimed == Claimed::Mine {
                store.keep("mailer", WINDOW, &[at("1", position)]).await.unwrap();
            }
            claimed
        })
    });
    let claimed: Vec<_> = futures_util::future::join_all(copies).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(claimed.iter().filter(|claimed| **claimed == Claimed::Mine).count(), 1, "{claimed:?}");
}

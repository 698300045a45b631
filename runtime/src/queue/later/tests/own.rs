//! What is the layer's own: that nothing is lost between broker and store, and who has what.

use std::num::NonZeroUsize;

use super::super::LaterQueue;
use super::*;
use crate::clock::{self, Timestamp};
use crate::event::Event;
use crate::queue::memory::MemoryQueue;
use crate::queue::{Delivery, Features, Position, Publish, Settle, Settlement, Start, Tries};
use crate::store::{DelayId, DelayLease, Delayed, Shelf};

const SOON: Duration = Duration::from_secs(10);
const SUBSCRIPTION: &str = "weir-mailer";

/// A queue in memory that holds nothing back, with a store beside it that others may share.
struct Rig {
    bare: Arc<Bare>,
    store: Arc<Store>,
    queue: Arc<LaterQueue>,
    _folder: TempDir,
}

impl Rig {
    async fn new(max_size: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let bare = Bare::over(MemoryQueue::new("events", max_size));
        let queue = LaterQueue::new(bare.clone(), Later::ALL.with_lease(LEASE), "events", Arc::clone(&store));
        queue.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
        Self { bare, store, queue, _folder: folder }
    }

    /// Another process on the same.
    fn other(&self) -> Arc<LaterQueue> {
        LaterQueue::new(self.bare.clone(), Later::ALL.with_lease(LEASE), "events", Arc::clone(&self.store))
    }

    async fn waiting(&self) -> u64 {
        self.store.delayed("events").await.unwrap().iter().map(|count| count.events).sum()
    }

    /// One event, that has been tried and waits in the store.
    async fn retried(&self, failed: u32) {
        publish(&*self.queue, "a", None).await.unwrap();
        let came = pull(&*self.queue).await;
        settle(&*self.queue, &came, retry(Timestamp(0), failed)).await.unwrap();
    }
}

fn event(id: &str, bytes: usize) -> Arc<Event> {
    let data = Some("x".repeat(bytes).into());
    let datacontenttype = Some("text/plain".to_owned());
    Arc::new(Event {
        id: id.to_owned(),
        source: "/t".to_owned(),
        kind: "t".to_owned(),
        datacontenttype,
        data,
        ..Event::default()
    })
}

fn tries(failed: u32) -> Tries {
    Tries { failed, ..Tries::default() }
}

fn retry(due: Timestamp, failed: u32) -> Settle {
    Settle::Retry { due, tries: tries(failed) }
}

async fn publish(queue: &dyn Queue, id: &str, due: Option<Timestamp>) -> Result<(), QueueError> {
    queue.publish(vec![Publish { event: event(id, 1), due }]).await
}

async fn pull(queue: &dyn Queue) -> Vec<Delivery> {
    let pulled = tokio::time::timeout(SOON, queue.pull(SUBSCRIPTION, NonZeroUsize::MIN.saturating_add(9))).await;
    pulled.expect("something comes").unwrap()
}

async fn settle(queue: &dyn Queue, deliveries: &[Delivery], settle: Settle) -> Result<Vec<Position>, QueueError> {
    let batch = deliveries.iter().map(|delivery| Settlement { position: delivery.position, settle });
    queue.settle(SUBSCRIPTION, batch.collect()).await
}

fn is_of_store(delivery: &Delivery) -> bool {
    delivery.position.0 >> 127 == 1
}

/// Waits for a condition.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let met = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, met).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_in_the_store_before_its_delivery_ends() {
    let rig = Rig::new(1 << 20).await;
    publish(&*rig.queue, "a", None).await.unwrap();
    let came = pull(&*rig.queue).await;
    rig.bare.fail(Some(QueueError::Unavailable("away".to_owned())));
    for _ in 0..3 {
        let settled = settle(&*rig.queue, &came, retry(clock::now().after(SOON), 1)).await;
        assert_eq!(settled, Err(QueueError::Unavailable("away".to_owned())));
    }
    assert_eq!(rig.waiting().await, 1, "it is there once, however often it was repeated");
    rig.bare.fail(None);
    assert_eq!(settle(&*rig.queue, &came, retry(Timestamp(0), 1)).await, Ok(vec![]));
    let depth = rig.queue.depth().await.unwrap();
    assert_eq!((depth.events, depth.subscriptions[0].events), (Some(1), Some(1)), "the broker has it no longer");
    assert_eq!(rig.bare.depth().await.unwrap().events, Some(0));
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_with_a_retry_costs_a_try_unless_it_had_not_begun() {
    let rig = Rig::new(1 << 20).await;
    rig.retried(1).await;
    rig.queue.close().await;
    let bare = Bare::over(MemoryQueue::new("events", 1 << 20));
    bare.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
    for (expected, noted) in [(1, None), (2, Some(2)), (2, None), (3, None)] {
        let queue = LaterQueue::new(bare.clone(), Later::ALL.with_lease(LEASE), "events", Arc::clone(&rig.store));
        let came = pull(&*queue).await;
        assert!(is_of_store(&came[0]) && queue.holds(SUBSCRIPTION, came[0].position));
        assert_eq!(came[0].tries, tries(expected));
        if let Some(failed) = noted {
            queue.note(SUBSCRIPTION, came[0].position, tries(failed));
            let side = queue.shared.known(SUBSCRIPTION).unwrap();
            eventually("the note is written", async || side.notes().is_empty()).await;
        }
        // Killed: what it holds is neither given back nor renewed.
        drop(queue);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_has_lost_is_told_and_its_settlement_is_late() {
    let rig = Rig::new(1 << 20).await;
    rig.retried(1).await;
    let came = pull(&*rig.queue).await;
    // Frozen: nothing is renewed.
    super::super::lock(&rig.queue.tasks).abort_all();
    let shelf = Shelf::retries("events", SUBSCRIPTION);
    let thief = DelayLease { holder: 1, length: SOON };
    eventually("another process claims it", async || !rig.store.claim_delayed(&shelf, thief, 1).await.unwrap().items.is_empty())
        .await;
    assert!(!rig.queue.holds(SUBSCRIPTION, came[0].position));
    assert_eq!(rig.queue.lapsed(SUBSCRIPTION).await, [came[0].position]);
    assert_eq!(settle(&*rig.queue, &came, Settle::Ack).await, Ok(vec![came[0].position]));
    assert_eq!(rig.waiting().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_the_store_are_kept_while_held_and_given_back_at_the_end() {
    let rig = Rig::new(1 << 20).await;
    rig.retried(1).await;
    let came = pull(&*rig.queue).await;
    let other = rig.other();
    let stolen = tokio::time::timeout(LEASE * 2, other.pull(SUBSCRIPTION, NonZeroUsize::MIN)).await;
    assert!(stolen.is_err(), "{stolen:?}");
    assert!(rig.queue.holds(SUBSCRIPTION, came[0].position));
    rig.queue.shared.closed.cancel();
    let side = rig.queue.shared.known(SUBSCRIPTION).unwrap();
    rig.queue.shared.leave(&side).await.unwrap();
    let again = pull(&*other).await;
    assert_eq!((again[0].event.id.as_str(), again[0].tries), ("a", tries(1)), "given back without a try");
    assert_eq!(settle(&*other, &again, Settle::Ack).await, Ok(vec![]));
    assert_eq!(rig.waiting().await, 0);
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_and_is_not_pulled_goes_to_others() {
    let rig = Rig::new(1 << 20).await;
    rig.retried(1).await;
    // The reader has had its order, and nobody pulls any more.
    let claimed = async || rig.store.delayed("events").await.unwrap()[0].claimed == 1;
    eventually("it is claimed", claimed).await;
    let other = rig.other();
    assert_eq!(pull(&*other).await[0].event.id, "a");
    other.close().await;
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_have_their_turn_while_the_broker_always_has_more() {
    let rig = Rig::new(1 << 20).await;
    rig.retried(1).await;
    let turn = async {
        for number in 0.. {
            publish(&*rig.queue, &format!("more-{number}"), None).await.unwrap();
            let came = pull(&*rig.queue).await;
            settle(&*rig.queue, &came, Settle::Ack).await.unwrap();
            if came.iter().any(is_of_store) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, turn).await.unwrap();
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_stays_with_the_adapter() {
    let rig = Rig::new(1 << 20).await;
    rig.queue.keep_order(SUBSCRIPTION).unwrap();
    publish(&*rig.queue, "a", None).await.unwrap();
    let came = pull(&*rig.queue).await;
    let settled = settle(&*rig.queue, &came, retry(Timestamp(0), 1)).await;
    assert_eq!(settled, Err(QueueError::Unsupported("delay")), "the adapter was asked");
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_while_the_broker_is_away_is_published_when_it_is_back() {
    let rig = Rig::new(1 << 20).await;
    publish(&*rig.queue, "a", Some(clock::now().after(Duration::from_millis(1)))).await.unwrap();
    rig.bare.fail(Some(QueueError::Unavailable("away".to_owned())));
    publish(&*rig.queue, "b", Some(clock::now().after(Duration::from_millis(1)))).await.unwrap();
    let mut waiting = rig.queue.pull(SUBSCRIPTION, NonZeroUsize::MIN);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    drop(waiting);
    assert!(rig.waiting().await > 0);
    rig.bare.fail(None);
    let mut came = Vec::new();
    eventually("both come", async || {
        came.extend(pull(&*rig.queue).await);
        came.len() == 2
    })
    .await;
    assert!(!came.iter().any(is_of_store), "they come by the broker, for every subscription");
    eventually("nothing is left", async || rig.waiting().await == 0).await;
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_that_is_refused_does_not_hold_up_the_others() {
    let rig = Rig::new(4_000).await;
    let store = &rig.store;
    let due = Timestamp(1);
    let item = |id: &str, bytes| Delayed { id: DelayId::new(), event: event(id, bytes), due, first_seen: due, tries: tries(0) };
    // As if its bound had been larger when it was published.
    store.delay(&Shelf::publishes("events"), &[item("a", 1), item("large", 9_000), item("b", 1)]).await.unwrap();
    let mut came = Vec::new();
    eventually("the others come", async || {
        came.extend(pull(&*rig.queue).await.into_iter().map(|delivery| delivery.event.id.clone()));
        came.len() == 2
    })
    .await;
    assert_eq!(came, ["a", "b"]);
    let too_large = rig.queue.publish(vec![Publish { event: event("c", 9_000), due: Some(clock::now().after(SOON)) }]).await;
    assert!(matches!(too_large, Err(QueueError::TooLarge { .. })), "{too_large:?}");
    eventually("the refused one is kept", async || rig.waiting().await == 1).await;
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_broker_refuses_leaves_nothing_in_the_store() {
    let rig = Rig::new(1 << 20).await;
    rig.bare.fail(Some(QueueError::Full { held: 1, bound: 1, blocker: None }));
    let due = |due| Publish { event: event("a", 1), due };
    let refused = rig.queue.publish(vec![due(Some(clock::now().after(SOON))), due(None)]).await;
    assert!(matches!(refused, Err(QueueError::Full { .. })), "{refused:?}");
    assert_eq!(rig.waiting().await, 0);
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_forgotten_leaves_nothing_in_the_store() {
    let rig = Rig::new(1 << 20).await;
    publish(&*rig.queue, "a", None).await.unwrap();
    let came = pull(&*rig.queue).await;
    settle(&*rig.queue, &came, retry(clock::now().after(SOON), 1)).await.unwrap();
    publish(&*rig.queue, "later", Some(clock::now().after(SOON))).await.unwrap();
    // As a broker that has lost it, or never knew who reads.
    rig.bare.unsubscribe(SUBSCRIPTION).await.unwrap();
    let depth = rig.queue.depth().await.unwrap();
    let known: Vec<_> = depth.subscriptions.iter().map(|known| (known.name.as_str(), known.events, known.in_flight)).collect();
    assert_eq!((depth.events, known), (Some(2), vec![(SUBSCRIPTION, Some(2), Some(0))]));
    rig.queue.unsubscribe(SUBSCRIPTION).await.unwrap();
    assert_eq!(rig.waiting().await, 1, "the delayed publish is for all");
    assert_eq!(rig.queue.depth().await.unwrap().subscriptions, []);
    rig.queue.close().await;
}

#[test]
fn features_are_those_of_both() {
    let bare = Features { delay: false, ..Features::LASTING };
    assert_eq!(Later::ALL.features(bare), Features { delay: true, stable_position: false, ..bare });
    assert_eq!(Later::beyond(SOON).features(bare), Features::LASTING);
    assert_eq!(Later::PUBLISHES.features(bare), bare);
    assert_eq!(Later::PUBLISHES.features(Features::LASTING), Features::LASTING);
}

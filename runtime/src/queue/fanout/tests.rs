//! The layer over queues that could have groups and are read as one: through the conformance suite, and what is its own.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Timestamp;
use crate::dead::DeadBounds;
use crate::event::Event;
use crate::queue::conformance::{Place, block_on, check};
use crate::queue::disk::DiskQueue;
use crate::queue::memory::MemoryQueue;
use crate::queue::{Settle, Start};

fn opening() -> Opening {
    Opening {
        name: "test".to_owned(),
        kind: "com.example.raw".to_owned(),
        max_size_bytes: 0,
        process: "tests".to_owned(),
        group: "weir".to_owned(),
        dead: DeadBounds::default(),
        key: None,
        map: None,
        store: None,
    }
}

struct InMemory(u64);

impl Place for InMemory {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(async { Ok(Fanout::over(MemoryQueue::new("test", self.0), &opening()) as Arc<dyn Queue>) })
    }
}

fn in_memory(max_size: u64) -> Box<dyn Place> {
    Box::new(InMemory(max_size))
}

mod in_memory {
    use super::in_memory;

    crate::conformance_tests!(in_memory, skips: [
        "each_subscription_sees_all",
        "first_subscriptions_see_what_waited",
        "start_decides_where_to_begin",
        "unsubscribe_frees",
        "kill_keeps_what_was_not_settled",
        "close_gives_back",
        "acked_never_come_back",
        "retries_outlive_the_process",
        "delayed_outlive_the_process",
        "subscriptions_outlive_the_process",
        "order_outlives_the_process",
        "killed_tries_are_counted",
        "processes_share_a_subscription",
        "a_killed_process_is_replaced",
        "leases_are_kept_while_held",
        "order_is_taken_over",
        "order_is_given_up_at_close",
        "answered_publishes_outlive_a_kill",
        "broker_restart_loses_nothing",
    ]);
}

struct OnDisk(tempfile::TempDir, u64);

impl Place for OnDisk {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(async {
            let below = DiskQueue::open(self.0.path(), "test", self.1)?;
            Ok(Fanout::over(below, &opening()) as Arc<dyn Queue>)
        })
    }
}

fn on_disk(max_size: u64) -> Box<dyn Place> {
    Box::new(OnDisk(tempfile::tempdir().unwrap(), max_size))
}

mod on_disk {
    use super::on_disk;

    crate::conformance_tests!(on_disk, skips: [
        "each_subscription_sees_all",
        "first_subscriptions_see_what_waited",
        "start_decides_where_to_begin",
        "unsubscribe_frees",
        "subscriptions_outlive_the_process",
        "processes_share_a_subscription",
        "a_killed_process_is_replaced",
        "leases_are_kept_while_held",
        "order_is_taken_over",
        "order_is_given_up_at_close",
        "broker_restart_loses_nothing",
    ]);
}

/// Says that it has groups: what is left out of those scenarios needs a place on the broker for each handler.
struct Grouped(Arc<Fanout>);

impl Queue for Grouped {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        self.0.publish(batch)
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        self.0.pull(subscription, max)
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        self.0.settle(subscription, batch)
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        self.0.depth()
    }

    fn features(&self) -> Features {
        Features { groups: true, ..self.0.features() }
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        self.0.subscribe(subscription, start)
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        self.0.unsubscribe(subscription)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}

struct GroupedInMemory(u64);

impl Place for GroupedInMemory {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        let layer = Fanout::over(MemoryQueue::new("test", self.0), &opening());
        Box::pin(async { Ok(Arc::new(Grouped(layer)) as Arc<dyn Queue>) })
    }
}

#[test]
fn handlers_of_one_process_are_as_good_as_groups() {
    let adapter = |max_size: u64| Box::new(GroupedInMemory(max_size)) as Box<dyn Place>;
    for scenario in ["each_subscription_sees_all", "first_subscriptions_see_what_waited", "unsubscribe_frees"] {
        block_on(check(&adapter, scenario, &[])).unwrap_or_else(|failure| panic!("{scenario}: {failure}"));
    }
}

/// Longest wait for something that must happen.
const SOON: Duration = Duration::from_secs(10);

fn event(id: &str) -> Publish {
    let event = Event { id: id.to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    Publish { event: Arc::new(event), due: None }
}

fn addressed(id: &str, handler: &str) -> Publish {
    let event = copy::copy(&event(id).event, handler, Tries::default());
    Publish { event: Arc::new(event), due: None }
}

async fn with(handlers: &[&str]) -> (Arc<MemoryQueue>, Arc<Fanout>) {
    let below = MemoryQueue::new("test", 1 << 20);
    let queue = Fanout::over(Arc::clone(&below) as Arc<dyn Queue>, &opening());
    for handler in handlers {
        queue.subscribe(&format!("weir-{handler}"), Start::New).await.unwrap();
    }
    (below, queue)
}

async fn pull(queue: &dyn Queue, name: &str, max: usize) -> Vec<Delivery> {
    let pulled = tokio::time::timeout(SOON, queue.pull(name, NonZeroUsize::new(max).unwrap())).await;
    pulled.unwrap_or_else(|_| panic!("nothing came for {name}")).unwrap()
}

async fn nothing_comes(queue: &dyn Queue, name: &str) {
    let came = tokio::time::timeout(Duration::from_millis(50), queue.pull(name, NonZeroUsize::MIN)).await;
    assert!(came.is_err(), "{came:?}");
}

async fn settle(queue: &dyn Queue, name: &str, delivery: Delivery, how: Settle) {
    assert_eq!(queue.settle(name, vec![delivery.settle(how).1]).await.unwrap(), []);
}

fn again(failed: u32) -> Settle {
    Settle::Retry { due: Timestamp(0), tries: Tries { failed, ..Tries::default() } }
}

async fn waits(queue: &dyn Queue) -> Option<u64> {
    queue.depth().await.unwrap().events
}

#[tokio::test]
async fn a_retry_of_one_of_several_is_a_copy_for_it_alone() {
    let (below, queue) = with(&["a", "b"]).await;
    queue.publish(vec![event("1")]).await.unwrap();
    let (a, b) = (pull(&*queue, "weir-a", 9).await.remove(0), pull(&*queue, "weir-b", 9).await.remove(0));
    settle(&*queue, "weir-a", a, again(1)).await;
    assert_eq!(waits(&*below).await, Some(2), "the copy, and the message that b still has");
    let copy = pull(&*queue, "weir-a", 9).await.remove(0);
    assert_eq!((copy.event.id.as_str(), copy.event.extension("weirhandler"), copy.tries.failed), ("1", Some("a"), 1));
    settle(&*queue, "weir-b", b, Settle::Ack).await;
    assert_eq!(waits(&*below).await, Some(1), "the message has ended");
    nothing_comes(&*queue, "weir-b").await;
    // Now it is for one alone: the queue's own retry.
    let position = copy.position;
    settle(&*queue, "weir-a", copy, again(2)).await;
    let copy = pull(&*queue, "weir-a", 9).await.remove(0);
    assert_eq!((copy.position, copy.tries.failed), (position, 2));
    settle(&*queue, "weir-a", copy, Settle::Ack).await;
    assert_eq!(waits(&*below).await, Some(0));
}

#[tokio::test]
async fn with_one_handler_everything_is_the_queues_own() {
    let (below, queue) = with(&["a"]).await;
    queue.publish(vec![event("1")]).await.unwrap();
    let first = pull(&*queue, "weir-a", 9).await.remove(0);
    let position = first.position;
    settle(&*queue, "weir-a", first, again(1)).await;
    let again = pull(&*queue, "weir-a", 9).await.remove(0);
    assert_eq!((again.position, again.tries.failed, again.event.extension("weirhandler")), (position, 1, None));
    settle(&*queue, "weir-a", again, Settle::Ack).await;
    assert_eq!(waits(&*below).await, Some(0));
}

#[tokio::test]
async fn one_that_stands_still_stops_the_others_at_its_window() {
    let (_, queue) = with(&["fast", "slow"]).await;
    for name in ["weir-fast", "weir-slow"] {
        queue.window(name, NonZeroUsize::new(3).unwrap());
    }
    queue.publish((0..9).map(|number| event(&number.to_string())).collect()).await.unwrap();
    for _ in 0..3 {
        let came = pull(&*queue, "weir-fast", 1).await.remove(0);
        settle(&*queue, "weir-fast", came, Settle::Ack).await;
    }
    nothing_comes(&*queue, "weir-fast").await;
    assert!(queue.book().full_said);
    let waiting = {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { pull(&*queue, "weir-fast", 1).await })
    };
    let slow = pull(&*queue, "weir-slow", 1).await.remove(0);
    settle(&*queue, "weir-slow", slow, Settle::Ack).await;
    assert_eq!(waiting.await.unwrap()[0].event.id, "3");
}

#[tokio::test]
async fn what_is_for_a_handler_that_is_not_here_goes_back() {
    let (below, queue) = with(&["a", "b"]).await;
    queue.publish(vec![addressed("1", "c"), event("2"), addressed("3", "b")]).await.unwrap();
    let came = pull(&*queue, "weir-a", 9).await;
    assert_eq!((came.len(), came[0].event.id.as_str()), (1, "2"));
    let of_b: Vec<_> = pull(&*queue, "weir-b", 9).await.into_iter().map(|delivery| delivery.event.id.clone()).collect();
    assert_eq!(of_b, ["2", "3"]);
    nothing_comes(&*queue, "weir-a").await;
    assert_eq!(below.depth().await.unwrap().subscriptions[0].in_flight, Some(2), "the first has gone back");
    assert_eq!(queue.book().give_back(Timestamp(0), true).1, [""; 0], "it is said once");
}

#[tokio::test]
async fn a_handler_that_is_removed_is_not_waited_for() {
    let (below, queue) = with(&["a", "b"]).await;
    queue.publish(vec![event("1"), event("2")]).await.unwrap();
    let mut came = pull(&*queue, "weir-a", 9).await;
    settle(&*queue, "weir-a", came.remove(0), Settle::Ack).await;
    assert_eq!(waits(&*below).await, Some(2));
    queue.unsubscribe("weir-b").await.unwrap();
    assert_eq!(waits(&*below).await, Some(1), "only what a holds");
    settle(&*queue, "weir-a", came.remove(0), Settle::Return).await;
    assert_eq!(pull(&*queue, "weir-a", 9).await[0].event.id, "2");
    queue.unsubscribe("weir-a").await.unwrap();
    assert_eq!(waits(&*below).await, Some(1), "without any handler it waits");
}

#[tokio::test]
async fn a_copy_that_can_not_be_published_changes_nothing() {
    let below = MemoryQueue::new("test", 450);
    let queue = Fanout::over(Arc::clone(&below) as Arc<dyn Queue>, &opening());
    for name in ["weir-a", "weir-b"] {
        queue.subscribe(name, Start::New).await.unwrap();
    }
    queue.publish(vec![event("1")]).await.unwrap();
    let (a, b) = (pull(&*queue, "weir-a", 9).await.remove(0), pull(&*queue, "weir-b", 9).await.remove(0));
    let retry = vec![a.settle(again(1)).1];
    assert!(matches!(queue.settle("weir-a", retry.clone()).await, Err(QueueError::Full { .. } | QueueError::TooLarge { .. })));
    assert!(queue.holds("weir-a", retry[0].position), "it is still held, and settled again");
    settle(&*queue, "weir-b", b, Settle::Ack).await;
    assert_eq!(waits(&*below).await, Some(1));
    let ack = Settlement { settle: Settle::Ack, ..retry[0] };
    assert_eq!(queue.settle("weir-a", vec![ack]).await.unwrap(), []);
    assert_eq!(waits(&*below).await, Some(0));
}

/// As quick queues do.
#[test]
fn what_comes_again_before_its_settlement_is_answered_is_held_anew() {
    let mut book = Book::default();
    book.adopt("weir-a", "weir");
    let came = || {
        let event = event("1").event;
        vec![Delivery { event, position: Position(7), tries: Tries::default(), first_seen: Timestamp(0) }]
    };
    book.take_in(came());
    let first = book.hand_out("weir-a", 9).remove(0);
    let plan = book.plan("weir-a", &[first.settle(Settle::Return).1], Timestamp(0), true);
    assert_eq!(book.take_in(came()), (false, false), "nothing has lapsed");
    book.settled(&plan.below);
    let again = book.hand_out("weir-a", 9).remove(0);
    let plan = book.plan("weir-a", &[again.settle(Settle::Ack).1], Timestamp(0), true);
    assert_eq!((plan.below.len(), plan.late), (1, vec![]));
}

#[tokio::test]
async fn depth_is_told_for_each_handler() {
    let (_, queue) = with(&["a", "b"]).await;
    queue.publish((0..4).map(|number| event(&number.to_string())).collect()).await.unwrap();
    let mut came = pull(&*queue, "weir-a", 2).await;
    settle(&*queue, "weir-a", came.remove(0), Settle::Ack).await;
    let depth = queue.depth().await.unwrap();
    let of: Vec<_> = depth.subscriptions.iter().map(|own| (own.name.as_str(), own.events, own.in_flight)).collect();
    assert_eq!((depth.events, of), (Some(4), vec![("weir-a", Some(3), Some(1)), ("weir-b", Some(4), Some(0))]));
}

//! The layer over a real embedded queue, with a broker whose outages a test makes.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::event::Event;
use crate::queue::memory::MemoryQueue;

/// A `memory:` queue that can be away, and that refuses events of one id.
struct Broker {
    queue: Arc<MemoryQueue>,
    away: AtomicBool,
    refuses: &'static str,
}

impl Queue for Broker {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move {
            if self.away.load(Ordering::Relaxed) {
                return Err(QueueError::Unavailable("connection refused".to_owned()));
            }
            if batch.iter().any(|publish| publish.event.id == self.refuses) {
                return Err(QueueError::TooLarge { size: 2, bound: 1 });
            }
            self.queue.publish(batch).await
        })
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        self.queue.pull(subscription, max)
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        self.queue.settle(subscription, batch)
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        self.queue.depth()
    }
}

fn batch(ids: &[&str]) -> Vec<Publish> {
    let event = |id: &&str| Event { id: (*id).to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    ids.iter().map(|id| Publish { event: Arc::new(event(id)), due: None }).collect()
}

fn broker(away: bool) -> Arc<Broker> {
    Arc::new(Broker { queue: MemoryQueue::new("events", 1 << 20), away: AtomicBool::new(away), refuses: "refused" })
}

async fn came(broker: &Broker, count: usize) -> Vec<String> {
    broker.queue.subscribe("it", Start::All).await.unwrap();
    let mut ids = Vec::new();
    while ids.len() < count {
        let pulled = tokio::time::timeout(Duration::from_secs(30), broker.queue.pull("it", NonZeroUsize::MIN)).await;
        let pulled = pulled.expect("it is forwarded").unwrap();
        ids.extend(pulled.iter().map(|delivery| delivery.event.id.clone()));
        let ended = pulled.into_iter().map(|delivery| delivery.settle(crate::queue::Settle::Ack).1).collect();
        broker.queue.settle("it", ended).await.unwrap();
    }
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn what_was_taken_is_forwarded_also_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let main = broker(true);
    let open = || FallbackQueue::open(Arc::clone(&main) as _, "events", folder.path().to_owned(), 1 << 20);
    let queue = open().await.unwrap();
    queue.publish(batch(&["1", "2"])).await.unwrap();
    queue.publish(batch(&["3"])).await.unwrap();
    let fallback = queue.fallback().unwrap();
    assert_eq!((fallback.taken(), fallback.forwarded(), fallback.problem()), (3, 0, None));
    assert_eq!(fallback.depth().await.unwrap().events, Some(3));
    // Without a close, as after a kill.
    queue.closed.cancel();
    let forwarding = lock(&queue.forwarding).take().unwrap();
    forwarding.await.unwrap();
    drop(queue);

    let queue = open().await.unwrap();
    main.away.store(false, Ordering::Relaxed);
    assert_eq!(came(&main, 3).await, ["1", "2", "3"]);
    queue.publish(batch(&["4"])).await.unwrap();
    assert_eq!(came(&main, 1).await, ["4"]);
    assert_eq!(queue.fallback().unwrap().taken(), 0);
    queue.close().await;
    assert_eq!(queue.publish(batch(&["5"])).await, Err(QueueError::Closed));
}

#[tokio::test]
async fn what_the_broker_refuses_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let main = broker(true);
    let queue = FallbackQueue::open(Arc::clone(&main) as _, "events", folder.path().to_owned(), 1 << 20).await.unwrap();
    queue.publish(batch(&["1", "refused", "2"])).await.unwrap();
    main.away.store(false, Ordering::Relaxed);
    assert_eq!(came(&main, 2).await, ["1", "2"]);
    let kept = async {
        while queue.fallback().unwrap().depth().await.unwrap().events != Some(1) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), kept).await.expect("it alone is kept");
    queue.close().await;
}

#[tokio::test]
async fn it_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let queue = FallbackQueue::open(broker(true), "events", folder.path().to_owned(), 300).await.unwrap();
    queue.publish(batch(&["1"])).await.unwrap();
    let mut refused = Ok(());
    for _ in 0..10 {
        refused = refused.and(queue.publish(batch(&["more"])).await);
    }
    assert!(matches!(refused, Err(QueueError::Full { bound: 300, blocker: None, .. })), "{refused:?}");
    assert!(queue.fallback().unwrap().problem().is_some());
    queue.close().await;
}

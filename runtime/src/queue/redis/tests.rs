//! `redis:` through the conformance suite against a real server, and what is its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::RedisQueue;
use super::url::StreamUrl;
use crate::dead::DeadBounds;
use crate::queue::conformance::Place;
use crate::queue::{BoxFuture, Opening, Queue, QueueError};
use crate::redis::server::shared;

/// A stream of its own on the server that the tests of this process share.
struct Stream {
    url: String,
}

impl Place for Stream {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(async { Ok(open(&self.url).await? as Arc<dyn Queue>) })
    }
}

/// Short, so that what a killed process held comes soon; long enough for a busy machine to renew.
fn adapter(_: u64) -> Box<dyn Place> {
    Box::new(Stream { url: format!("{}?stream={}&lease=2s", shared().url(0), fresh()) })
}

/// A key that no other test has.
fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("tests:{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn open(url: &str) -> Result<Arc<RedisQueue>, QueueError> {
    let opening =
        Opening { name: "test".to_owned(), kind: "com.example.raw".to_owned(), max_size_bytes: 0, process: "tests".to_owned(), dead: DeadBounds::default() };
    RedisQueue::open(&StreamUrl::parse(url, Path::new("")).unwrap(), &opening).await
}

mod conformance {
    use super::adapter;

    crate::conformance_tests!(adapter, skips: [
        "full_queue_refuses_and_recovers",
        "too_large_is_refused",
        "batch_is_all_or_none",
    ]);
}

//! `nats://…`: a subject of a NATS server, kept by a stream (`stream.rs`) or by nobody (`subject.rs`).

mod message;
mod server;
pub mod stream;
pub mod subject;
pub mod url;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::url::NatsUrl;
use super::{Opening, Queue, QueueError};
use crate::clock::Timestamp;

/// Opens the queue of a URL. The server may be away.
///
/// # Errors
/// When the server refuses us, or what the URL names can't be used.
pub async fn open(url: &NatsUrl, opening: &Opening) -> Result<Arc<dyn Queue>, QueueError> {
    Ok(match url.stream {
        Some(_) => stream::JetStreamQueue::open(url, opening).await?,
        None => subject::SubjectQueue::open(url, opening).await?,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server's time of a message.
fn published(nanos: i128) -> Timestamp {
    Timestamp(u64::try_from(nanos / 1_000_000).unwrap_or(0))
}

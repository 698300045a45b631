//! Where notes of tries stand: a key-value bucket of the same server, made when the first one is written.

use async_nats::jetstream::Context;
use async_nats::jetstream::kv::{Config, Store};
use std::time::Duration;
use tokio::sync::OnceCell;

use super::tries::Note;
use crate::queue::Position;

/// The bucket of all of them.
const BUCKET: &str = "weir-tries";

/// How long a note is kept; longer than an event waits for its next try.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Notes of one stream. Best effort: without them tries that were given back count.
pub(super) struct Notes {
    jetstream: Context,
    stream: String,
    bucket: OnceCell<Store>,
}

impl Notes {
    pub(super) fn new(jetstream: Context, stream: &str) -> Self {
        // A stream's name may hold what a key may not.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let stream = if stream.bytes().all(plain) { stream.to_owned() } else { format!("={}", hex::encode(stream)) };
        Self { jetstream, stream, bucket: OnceCell::new() }
    }

    pub(super) async fn read(&self, consumer: &str, position: Position) -> Option<Note> {
        let bucket = match self.bucket.get() {
            Some(bucket) => bucket.clone(),
            // Not made for reading: when nobody has noted anything there is none.
            None => self.jetstream.get_key_value(BUCKET).await.ok()?,
        };
        let bucket = self.bucket.get_or_init(|| std::future::ready(bucket)).await;
        let text = bucket.get(self.key(consumer, position)).await.ok()??;
        serde_json::from_slice(&text).ok()
    }

    pub(super) async fn write(&self, consumer: &str, position: Position, note: Note) {
        let Ok(text) = serde_json::to_vec(&note) else { return };
        let config = || Config { bucket: BUCKET.to_owned(), history: 1, max_age: KEPT, ..Config::default() };
        let made = self.bucket.get_or_try_init(|| async {
            match self.jetstream.get_key_value(BUCKET).await {
                Ok(bucket) => Ok(bucket),
                Err(_) => self.jetstream.create_key_value(config()).await,
            }
        });
        let written = match made.await {
            Ok(bucket) => bucket.put(self.key(consumer, position), text.into()).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = written {
            tracing::warn!(stream = %self.stream, error, "tries that were given back could not be noted in the bucket `{BUCKET}`: they count");
        }
    }

    pub(super) async fn remove(&self, consumer: &str, position: Position) {
        if let Some(bucket) = self.bucket.get() {
            // What stays is removed by its age.
            let _ = bucket.purge(self.key(consumer, position)).await;
        }
    }

    fn key(&self, consumer: &str, position: Position) -> String {
        format!("{}.{consumer}.{}", self.stream, position.0)
    }
}

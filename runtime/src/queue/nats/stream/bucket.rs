//! What Weir keeps beside streams, in one key-value bucket of the same server, made when something is first written: how far events have
//! got where the server counts otherwise, and who reads a subscription that one process reads at a time.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::KeyValueErrorKind;
use async_nats::jetstream::kv::{Config, Store};
use tokio::sync::OnceCell;

use super::tries::Note;
use crate::queue::nats::server::Server;
use crate::queue::{Position, QueueError};

/// The bucket of all streams.
pub(super) const BUCKET: &str = "weir";

/// How long a note is kept; longer than an event waits for its next try. What a reader of a subscription writes is renewed all the time.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The bucket, as far as it concerns one stream.
pub(super) struct Bucket {
    server: Arc<Server>,
    /// The stream's name as it stands in keys.
    stream: String,
    store: OnceCell<Store>,
}

impl Bucket {
    pub(super) fn new(server: Arc<Server>, stream: &str) -> Self {
        // A stream's name may hold what a key may not.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let stream = if stream.bytes().all(plain) { stream.to_owned() } else { format!("={}", hex::encode(stream)) };
        Self { server, stream, store: OnceCell::new() }
    }

    /// The bucket; made if it is not there.
    ///
    /// # Errors
    /// When it may not be made: says how to make it.
    pub(super) async fn store(&self) -> Result<&Store, QueueError> {
        let config = || Config {
            bucket: BUCKET.to_owned(),
            description: "Weir: tries of events, readers of subscriptions".to_owned(),
            history: 1,
            max_age: KEPT,
            ..Config::default()
        };
        let made = self.store.get_or_try_init(|| async {
            match self.server.jetstream.get_key_value(BUCKET).await {
                Ok(bucket) => Ok(bucket),
                Err(error) if error.kind() == KeyValueErrorKind::GetBucket => {
                    let made = self.server.jetstream.create_key_value(config()).await;
                    made.map_err(|error| self.server.away(format!("the bucket `{BUCKET}` can't be made: {error}")))
                }
                Err(error) => Err(self.server.away(format!("the bucket `{BUCKET}`: {error}"))),
            }
        });
        match self.server.unless_refused(made).await {
            Ok(answer) => answer,
            Err(QueueError::Invalid(refused)) => Err(QueueError::Invalid(format!(
                "{refused} [the key-value bucket `{BUCKET}` is needed: `nats kv add {BUCKET} --ttl=168h` makes it]"
            ))),
            Err(other) => Err(other),
        }
    }

    /// What was noted of an event; none: nothing, or it can't be had.
    pub(super) async fn note(&self, consumer: &str, position: Position) -> Option<Note> {
        let store = match self.store.get() {
            Some(store) => store.clone(),
            // Not made for reading: when nobody has noted anything there is none.
            None => self.server.jetstream.get_key_value(BUCKET).await.ok()?,
        };
        let store = self.store.get_or_init(|| std::future::ready(store)).await;
        let text = store.get(self.note_key(consumer, position)).await.ok()??;
        serde_json::from_slice(&text).ok()
    }

    /// Notes it. Best effort: without it tries that were given back count.
    pub(super) async fn write(&self, consumer: &str, position: Position, note: Note) {
        let Ok(text) = serde_json::to_vec(&note) else { return };
        let written = match self.store().await {
            Ok(store) => store.put(self.note_key(consumer, position), text.into()).await.map(drop).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = written {
            tracing::warn!(stream = %self.stream, error, "tries that were given back could not be noted: they count");
        }
    }

    /// Notes several without waiting for the server: as soon as it reads them they outlive this process.
    pub(super) async fn write_soon(&self, consumer: &str, notes: impl IntoIterator<Item = (Position, Note)>) {
        if let Err(error) = self.store().await {
            tracing::warn!(stream = %self.stream, %error, "how far events have got could not be noted");
            return;
        }
        for (position, note) in notes {
            let Ok(text) = serde_json::to_vec(&note) else { continue };
            let subject = format!("$KV.{BUCKET}.{}", self.note_key(consumer, position));
            // The client has ended; then nothing more is told to anybody.
            let _ = self.server.client.publish(subject, text.into()).await;
        }
    }

    /// What was noted of an event that is done with.
    pub(super) async fn remove(&self, consumer: &str, position: Position) {
        if let Some(store) = self.store.get() {
            // What stays is removed by its age.
            let _ = store.purge(self.note_key(consumer, position)).await;
        }
    }

    fn note_key(&self, consumer: &str, position: Position) -> String {
        format!("tries.{}.{consumer}.{}", self.stream, position.0)
    }

    /// Where the reader of a subscription stands.
    pub(super) fn reader_key(&self, consumer: &str) -> String {
        format!("reader.{}.{consumer}", self.stream)
    }
}

//! The bare client that a stream is measured against (`weir bench`): what a plain program would write, and none of Weir. Its events are
//! counted and not looked at.
//!
//! A pull consumer that fetches as many as Weir may have at once and acknowledges each message, without waiting for the server to confirm
//! that, as the client's own examples do.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::stream::Config;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use tokio::runtime::{Builder, Runtime};

use crate::event::Event;
use crate::queue::QueueError;
use crate::queue::floor::{Floor, numbered};
use crate::queue::nats::message;
use crate::queue::nats::server::{PUBLISHES_MAX, Server};
use crate::queue::nats::url::NatsUrl;

/// Messages that are confirmed together when a stream is filled.
const FILL: u64 = PUBLISHES_MAX as u64 / 2;

/// Messages that the client keeps of what it is sent: more than it asks for at once.
const BUFFER: usize = 4_096;

/// After this time the server itself removes what an aborted measurement left.
const EXPIRES: Duration = Duration::from_secs(3_600);

const CONSUMER: &str = "client";

/// A plain client, which connects anew each time it is asked for something.
pub(in crate::queue) struct StreamFloor {
    runtime: Runtime,
    /// Its own stream.
    url: NatsUrl,
    /// The stream beside it.
    queue: String,
}

/// Makes a stream with a consumer; and the URL of one beside it. Subjects are their own too: those of the stream that was named are its.
pub(in crate::queue) fn open(url: &NatsUrl) -> Result<(NatsUrl, StreamFloor), QueueError> {
    let own = crate::clock::id();
    let beside = |name: &str| NatsUrl {
        subject: format!("bench-{own}.{name}"),
        stream: Some(format!("{}-bench-{own}-{name}", url.stream.as_deref().unwrap_or_default())),
        ..url.clone()
    };
    let made = Builder::new_current_thread().enable_all().build();
    let runtime = made.map_err(|error| QueueError::Unavailable(format!("no runtime could be made: {error}")))?;
    let fresh = beside("queue");
    let floor = StreamFloor { runtime, url: beside("client"), queue: fresh.stream.clone().unwrap_or_default() };
    floor.runtime.block_on(floor.make())?;
    Ok((fresh, floor))
}

impl StreamFloor {
    fn stream(&self) -> &str {
        self.url.stream.as_deref().unwrap_or_default()
    }

    async fn connect(&self) -> Result<Arc<Server>, QueueError> {
        let server = Server::open(&self.url, "bench", BUFFER).await?;
        server.check()?;
        Ok(server)
    }

    async fn make(&self) -> Result<(), QueueError> {
        let server = self.connect().await?;
        let name = self.stream().to_owned();
        let config = Config { name, subjects: vec![self.url.subject.clone()], max_age: EXPIRES, ..Config::default() };
        let made = server.unless_refused(server.jetstream.create_stream(config)).await?;
        made.map_err(|error| server.invalid(format!("stream `{}` can't be made: {error}", self.stream())))?;
        let config = pull::Config { durable_name: Some(CONSUMER.to_owned()), ..pull::Config::default() };
        let made = server.jetstream.create_consumer_on_stream(config, self.stream()).await;
        made.map(drop).map_err(|error| server.away(error))
    }

    async fn filled(&self, event: &Event, count: u64) -> Result<(), QueueError> {
        let server = self.connect().await?;
        let stream = server.jetstream.get_stream_no_info(self.stream()).await.map_err(|error| server.away(error))?;
        stream.purge().await.map_err(|error| server.away(error))?;
        for from in (0..count).step_by(usize::try_from(FILL).unwrap_or(usize::MAX)) {
            let mut confirmations = Vec::new();
            for number in from..count.min(from + FILL) {
                let (headers, body) = message::written(&numbered(event, number));
                let sent = server.jetstream.publish_with_headers(self.url.subject.clone(), headers, body).await;
                confirmations.push(sent.map_err(|error| server.away(error))?.into_future());
            }
            try_join_all(confirmations).await.map_err(|error| server.away(error))?;
        }
        Ok(())
    }

    async fn read(&self, count: u64, at_once: usize) -> Result<(), QueueError> {
        let server = self.connect().await?;
        let away = |error: &dyn std::fmt::Display| server.away(error);
        let found = server.jetstream.get_consumer_from_stream(CONSUMER, self.stream()).await;
        let consumer: PullConsumer = found.map_err(|error| away(&error))?;
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        while left > 0 {
            let fetched = consumer.fetch().max_messages(left.min(at_once)).messages().await;
            let mut messages = fetched.map_err(|error| away(&error))?;
            let before = left;
            while let Some(message) = messages.next().await {
                message.map_err(|error| away(&error))?.ack().await.map_err(|error| away(&error))?;
                left = left.saturating_sub(1);
            }
            if left == before {
                return Err(server.away(format!("stream `{}` lost events", self.stream())));
            }
        }
        server.client.flush().await.map_err(|error| away(&error))
    }
}

impl Floor for StreamFloor {
    fn fill(&mut self, event: &Event, count: u64) -> Result<(), QueueError> {
        self.runtime.block_on(self.filled(event, count))
    }

    fn run(&mut self, count: u64, at_once: usize) -> Result<(), QueueError> {
        self.runtime.block_on(self.read(count, at_once))
    }

    fn remove(&mut self) -> Result<(), QueueError> {
        self.runtime.block_on(async {
            let server = self.connect().await?;
            for stream in [self.stream(), &self.queue] {
                server.jetstream.delete_stream(stream).await.map_err(|error| server.away(error))?;
            }
            Ok(())
        })
    }
}

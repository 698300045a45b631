//! The bare client that a queue is measured against (`weir bench`): what a plain program would write, and none of Weir. Its events are
//! counted and not looked at.
//!
//! It publishes with confirms, is sent as many as it may hold, and acknowledges several at once.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions};
use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::runtime::{Builder, Runtime};

use super::link::Target;
use super::message;
use super::problem::Problem;
use super::steps::Step;
use super::topology;
use super::url::{AmqpUrl, Place};
use crate::clock;
use crate::event::Event;
use crate::queue::QueueError;
use crate::queue::floor::Floor;

/// Publishes that wait for their confirms at once.
const UNCONFIRMED_MAX: u64 = 1_000;

/// Longest wait for an event that is there.
const COMES_MAX: Duration = Duration::from_secs(20);

/// A plain client.
pub(in crate::queue) struct AmqpFloor {
    runtime: Runtime,
    connection: Connection,
    /// The URL without credentials, for texts.
    shown: String,
    /// Its own queue.
    queue: String,
    /// The queue beside it.
    beside: String,
}

/// Connects, and makes a queue; and the URL of one beside it.
pub(in crate::queue) fn open(url: &AmqpUrl) -> Result<(AmqpUrl, AmqpFloor), QueueError> {
    let Place::Queue(name) = &url.place else {
        return Err(QueueError::Invalid(format!("`{url}` is an exchange: only a queue is measured [leave `exchange=` out]")));
    };
    let beside = format!("{name}.bench-{}", clock::id());
    let (shown, queue) = (url.to_string(), format!("{beside}.client"));
    let made = Builder::new_current_thread().enable_all().build();
    let runtime = made.map_err(|error| QueueError::Unavailable(format!("no runtime could be made: {error}")))?;
    let target = Target { url: url.clone(), shown: shown.clone(), name: "weir bench".to_owned() };
    let connection = runtime.block_on(async {
        let (connection, _) = target.connect().await?;
        let channel = connection.create_channel().await.map_err(|error| Problem::of(&shown, &error))?;
        let arguments = topology::arguments(url.kind);
        let made = channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await;
        made.map_err(|error| Problem::of(&shown, &error))?;
        Ok::<_, Problem>(connection)
    })?;
    let fresh = AmqpUrl { place: Place::Queue(beside.clone()), ..url.clone() };
    Ok((fresh, AmqpFloor { runtime, connection, shown, queue, beside }))
}

impl AmqpFloor {
    /// Does something on a channel of its own, and waits until the server has heard all of it.
    fn on_channel<T>(&self, does: impl AsyncFnOnce(&Channel) -> Result<T, lapin::Error>) -> Result<T, QueueError> {
        let done = self.runtime.block_on(async {
            let channel = self.connection.create_channel().await?;
            let done = does(&channel).await?;
            channel.close(200, "done".into()).await?;
            Ok(done)
        });
        done.map_err(|error| Problem::of(&self.shown, &error).into())
    }

    async fn fill_on(&self, channel: &Channel, event: &Event, count: u64) -> Result<(), lapin::Error> {
        let message = message::message(event, clock::id(), clock::now());
        channel.queue_purge(self.queue.as_str().into(), QueuePurgeOptions::default()).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut left = count;
        while left > 0 {
            let mut confirms = Vec::new();
            for _ in 0..left.min(UNCONFIRMED_MAX) {
                let (key, options, properties) =
                    (self.queue.as_str().into(), BasicPublishOptions::default(), &message.properties);
                confirms.push(channel.basic_publish("".into(), key, options, &message.body, properties.clone()).await?);
            }
            left -= left.min(UNCONFIRMED_MAX);
            try_join_all(confirms).await?;
        }
        Ok(())
    }

    /// How many came.
    async fn run_on(&self, channel: &Channel, count: u64, at_once: usize) -> Result<u64, lapin::Error> {
        let prefetch = u16::try_from(at_once).unwrap_or(u16::MAX).max(1);
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let (queue, options) = (self.queue.as_str().into(), BasicConsumeOptions::default());
        let mut consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
        // Half of what it may hold is acknowledged at once, while the server sends the other.
        let (every, mut came) = (u64::from(prefetch.div_ceil(2)), 0);
        while came < count {
            let Ok(Some(delivery)) = tokio::time::timeout(COMES_MAX, consumer.next()).await else { break };
            let delivery = delivery?;
            came += 1;
            if came % every == 0 || came == count {
                delivery.acker.ack(BasicAckOptions { multiple: true }).await?;
            }
        }
        Ok(came)
    }
}

impl Floor for AmqpFloor {
    fn fill(&mut self, event: &Event, count: u64) -> Result<(), QueueError> {
        self.on_channel(async |channel| self.fill_on(channel, event, count).await)
    }

    fn run(&mut self, count: u64, at_once: usize) -> Result<(), QueueError> {
        match self.on_channel(async |channel| self.run_on(channel, count, at_once).await)? {
            came if came == count => Ok(()),
            came => Err(QueueError::Unavailable(format!("`{}`: {came} of {count} events came", self.shown))),
        }
    }

    fn remove(&mut self) -> Result<(), QueueError> {
        let waits = Step::queues(&self.beside);
        for queue in waits.chain([self.beside.clone(), self.queue.clone()]) {
            // The server takes what is not there for removed.
            let removed =
                async |channel: &Channel| channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
            self.on_channel(removed)?;
        }
        let closed = self.runtime.block_on(self.connection.close(200, "done".into()));
        closed.map_err(|error| Problem::of(&self.shown, &error).into())
    }
}

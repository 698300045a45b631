//! What waits in a stream, as its server counts it.

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::stream::Stream;

use super::publish;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::queue::nats::published;
use crate::queue::{Depth, QueueError, SubscriptionDepth};

impl Shared {
    pub(super) async fn depth(&self) -> Result<Depth, QueueError> {
        let stream = self.stream().await?;
        let infos = self.consumers(stream).await?;
        let delayed = self.delayed(stream).await?;
        let mut subscriptions = Vec::with_capacity(infos.len());
        for info in infos {
            let waits = info.num_pending + info.num_ack_pending as u64;
            let oldest = if waits > 0 { self.oldest(stream, &info).await } else { None };
            subscriptions.push(SubscriptionDepth {
                events: Some(waits + delayed),
                oldest,
                in_flight: Some(self.held(&info.name)),
                partitions: Vec::new(),
                name: info.name,
            });
        }
        let most = subscriptions.iter().filter_map(|subscription| subscription.events).max();
        let events = match most {
            Some(most) => most,
            // Nobody reads it yet: all of it waits.
            None => self.info(stream).await?.messages,
        };
        Ok(Depth { events: Some(events), bytes: None, subscriptions })
    }

    /// Leased by this process: what the server counts as delivered has retries that wait among it.
    fn held(&self, consumer: &str) -> u64 {
        let of = self.subscriptions().into_iter().filter(|subscription| subscription.consumer == consumer);
        of.map(|subscription| subscription.inbox.hold().len() as u64).sum()
    }

    /// When the first message that a consumer has not ended was published.
    async fn oldest(&self, stream: &Stream, info: &Info) -> Option<Timestamp> {
        let subject = match info.config.filter_subject.as_str() {
            "" => ">",
            subject => subject,
        };
        let first = stream.raw_message_builder().sequence(info.ack_floor.stream_sequence + 1).next_by_subject(subject);
        first.send().await.ok().map(|message| published(message.time.unix_timestamp_nanos()))
    }

    /// Publishes that wait for their time.
    async fn delayed(&self, stream: &Stream) -> Result<u64, QueueError> {
        if !stream.cached_info().config.allow_message_schedules {
            return Ok(0);
        }
        let ours = publish::delay_subject(&self.stream_name, ">");
        // Each has a subject of its own: with as many as are there, the server counts them.
        let mut with = stream.info_with_subjects(ours).await.map_err(|error| self.server.away(error))?;
        let mut count = 0;
        while let Some(one) = futures_util::TryStreamExt::try_next(&mut with).await.map_err(|error| self.server.away(error))? {
            count += one.1 as u64;
        }
        Ok(count)
    }

    async fn info(&self, stream: &Stream) -> Result<async_nats::jetstream::stream::State, QueueError> {
        let info = self.server.unless_refused(stream.get_info()).await?;
        info.map(|info| info.state).map_err(|error| self.server.away(error))
    }
}

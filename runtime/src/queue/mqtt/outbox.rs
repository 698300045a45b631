//! Publishing, each message with QoS 1 and answered when the broker has acknowledged it.
//!
//! Nothing is repeated: after a lost connection it is not known whether a message was taken, and whoever published it is told so.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::v5::{ConnAck, PubAckReason, Publish as Message};
use rumqttc::v5::{AsyncClient, Incoming};
use tokio::sync::{Semaphore, oneshot};

use super::link::Role;
use super::problem::{self, Problem};
use super::url::MqttUrl;
use super::{lock, message};
use crate::clock;
use crate::queue::{Publish, QueueError};

/// Messages that wait for their acknowledgement at once; more wait for room.
pub(super) const UNCONFIRMED_MAX: u16 = 512;

/// What the protocol adds to a message beside its properties, at most: header, lengths and packet id.
const OVERHEAD_BYTES: usize = 32;

/// What is published over one connection.
pub(super) struct Outbox {
    url: MqttUrl,
    // std's mutex: held for a look or a change, never across an await; publishers and the task that polls share it.
    sending: Mutex<Sending>,
    room: Semaphore,
}

#[derive(Default)]
struct Sending {
    client: Option<AsyncClient>,
    /// Why there is none.
    problem: Option<Problem>,
    /// The largest packet that the broker takes.
    packet_bytes_max: Option<u32>,
    /// Handed to the client, in its order, without a packet id yet.
    handed: VecDeque<oneshot::Sender<PubAckReason>>,
    /// Under their packet ids.
    sent: HashMap<u16, oneshot::Sender<PubAckReason>>,
}

impl Outbox {
    pub(super) fn new(url: &MqttUrl) -> Arc<Self> {
        Arc::new(Self { url: url.clone(), sending: Mutex::default(), room: Semaphore::new(usize::from(UNCONFIRMED_MAX)) })
    }

    /// What is too large for the broker, as it said, or for ourselves to read; none: it may fit.
    pub(super) fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        let said = lock(&self.sending).packet_bytes_max.unwrap_or(u32::MAX);
        let bound = said.min(self.url.max_packet_bytes) as usize;
        // The event is asked first: most are far below, and a message is made only of one that is near.
        let near = batch.iter().filter(|publish| publish.event.size() * 2 + 4_096 > bound);
        let sizes = near.map(|publish| message::message(&self.url.filter, &publish.event).size() + OVERHEAD_BYTES);
        let size = sizes.max().filter(|size| *size > bound)?;
        Some(QueueError::TooLarge { size: size as u64, bound: bound as u64 })
    }

    /// Publishes a batch; answers when the broker has all of it. A failure in the middle leaves what came before it.
    pub(super) async fn publish(&self, batch: &[Publish]) -> Result<(), QueueError> {
        if self.url.has_wildcards() {
            let url = &self.url;
            return Err(QueueError::Invalid(format!("`{url}` stands for several topics, so it is only read [name one topic]")));
        }
        let now = clock::now();
        if batch.iter().any(|publish| publish.due.is_some_and(|due| due > now)) {
            return Err(QueueError::Unsupported("delay"));
        }
        if let Some(too_large) = self.too_large(batch) {
            return Err(too_large);
        }
        let message = |publish: &Publish| message::message(&self.url.filter, &publish.event);
        let sent: Vec<_> = batch.iter().map(|publish| self.publish_one(message(publish))).collect();
        stream::iter(sent).buffer_unordered(usize::from(UNCONFIRMED_MAX)).try_collect().await
    }

    async fn publish_one(&self, message: Message) -> Result<(), QueueError> {
        let away = |text: &str| QueueError::from(Problem::Away(text.to_owned()).of(&self.url));
        // Given back when the answer is there, so that the client's channel always has room.
        let _room = self.room.acquire().await.map_err(|_| QueueError::Closed)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut sending = lock(&self.sending);
            let lost = || sending.problem.clone().map_or_else(|| away("not connected yet"), QueueError::from);
            let client = sending.client.as_ref().ok_or_else(lost)?;
            let Message { topic: _, payload, properties, .. } = message;
            let properties = properties.unwrap_or_default();
            let sent = client.try_publish_with_properties(&*self.url.filter, message.qos, message.retain, payload, properties);
            sent.map_err(|_| away("the connection is busy"))?;
            sending.handed.push_back(answer);
        }
        let answer = answered.await;
        let reason = answer.map_err(|_| away("the connection was lost, it is not known whether the message was taken"))?;
        match problem::of_publish(reason, &self.url.filter, self.url.drop_unread) {
            None => Ok(()),
            Some(problem) => Err(problem.of(&self.url).into()),
        }
    }
}

/// The task's side.
pub(super) struct Sender(pub(super) Arc<Outbox>);

impl Role for Sender {
    fn connected(&mut self, client: AsyncClient, connack: &ConnAck) -> Result<bool, Problem> {
        if let Some(problem) = problem::of_abilities(connack, self.0.url.has_wildcards()) {
            return Err(problem);
        }
        let mut sending = lock(&self.0.sending);
        sending.packet_bytes_max = connack.properties.as_ref().and_then(|properties| properties.max_packet_size);
        sending.client = Some(client);
        Ok(true)
    }

    fn came(&mut self, packet: Incoming) -> Result<bool, Problem> {
        if let Incoming::PubAck(puback) = packet {
            let answer = lock(&self.0.sending).sent.remove(&puback.pkid);
            // Whoever asked may have gone.
            answer.map(|answer| answer.send(puback.reason));
        }
        Ok(false)
    }

    fn left(&mut self, packet: &Outgoing) -> Result<(), Problem> {
        if let Outgoing::Publish(id) = packet {
            let mut sending = lock(&self.0.sending);
            if let Some(answer) = sending.handed.pop_front() {
                sending.sent.insert(*id, answer);
            }
        }
        Ok(())
    }

    fn lost(&mut self, problem: &Problem) {
        let mut sending = lock(&self.0.sending);
        let packet_bytes_max = sending.packet_bytes_max;
        // Who waits for an answer is told by this.
        *sending = Sending { packet_bytes_max, problem: Some(problem.clone()), ..Sending::default() };
    }
}

//! The bare client that a topic is measured against (`weir bench`): what a plain program would write, and none of Weir. Its events are
//! counted and not looked at.
//!
//! It has a session that waits while it is filled, as the queue beside it does, and acknowledges each message as it comes.

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event as Told, EventLoop, Incoming, MqttOptions};
use tokio::runtime::{Builder, Runtime};

use super::connect::{Broker, Session};
use super::outbox::UNCONFIRMED_MAX;
use super::url::MqttUrl;
use super::{message, problem};
use crate::event::Event;
use crate::queue::QueueError;
use crate::queue::floor::Floor;

/// Requests that wait for the client at once.
const REQUESTS_MAX: usize = 1_024;

/// Publishes of its own while it reads: none.
const READER_INFLIGHT: u16 = 16;

/// A plain client.
pub(in crate::queue) struct MqttFloor {
    runtime: Runtime,
    broker: Broker,
    /// Its own topic, beside the queue's.
    url: MqttUrl,
    client_id: String,
}

/// Makes a session on a topic; and the URL of a topic beside it.
pub(in crate::queue) fn open(url: &MqttUrl) -> Result<(MqttUrl, MqttFloor), QueueError> {
    if url.has_wildcards() {
        return Err(QueueError::Invalid(format!("`{url}` stands for several topics, so nothing can be published to it")));
    }
    let own = crate::clock::id();
    let beside = MqttUrl { filter: format!("{}/bench-{own}", url.filter), ..url.clone() };
    let url = MqttUrl { filter: format!("{}/client", beside.filter), ..url.clone() };
    let made = Builder::new_current_thread().enable_all().build();
    let runtime = made.map_err(|error| QueueError::Unavailable(format!("no runtime could be made: {error}")))?;
    let broker = runtime.block_on(Broker::new(&url))?;
    let mut floor = MqttFloor { runtime, broker, url, client_id: format!("bench-{own}") };
    floor.read(0, 1)?;
    Ok((beside, floor))
}

impl MqttFloor {
    fn session(&self, at_once: usize) -> MqttOptions {
        let receive_max = u16::try_from(at_once).unwrap_or(u16::MAX).max(1);
        self.broker.options(&self.client_id, Some(Session { receive_max }), READER_INFLIGHT)
    }

    /// Connects, reads and acknowledges so many, and leaves.
    fn read(&mut self, count: u64, at_once: usize) -> Result<(), QueueError> {
        let (client, mut polled) = AsyncClient::new(self.session(at_once), REQUESTS_MAX + at_once);
        let filter = self.url.filter.clone();
        let full = |_| QueueError::Unavailable("the client has no room".to_owned());
        let mut left = count;
        self.runtime.block_on(async {
            client.try_subscribe(filter, QoS::AtLeastOnce).map_err(full)?;
            let (mut acknowledged, mut subscribed) = (0, false);
            while !subscribed || acknowledged < count {
                match told(&mut polled).await? {
                    Told::Incoming(Incoming::SubAck(_)) => subscribed = true,
                    Told::Incoming(Incoming::Publish(message)) if left > 0 => {
                        left -= 1;
                        client.try_ack(&message).map_err(full)?;
                    }
                    Told::Outgoing(Outgoing::PubAck(_)) => acknowledged += 1,
                    _ => {}
                }
            }
            leave(&client, &mut polled).await
        })
    }
}

impl Floor for MqttFloor {
    fn fill(&mut self, event: &Event, count: u64) -> Result<(), QueueError> {
        let message = message::message(&self.url.filter, event);
        let options = self.broker.options(&format!("{}-fill", self.client_id), None, UNCONFIRMED_MAX);
        let (client, mut polled) = AsyncClient::new(options, REQUESTS_MAX);
        let filter = self.url.filter.clone();
        self.runtime.block_on(async {
            let (mut sent, mut confirmed) = (0, 0);
            while confirmed < count {
                while sent < count && sent - confirmed < u64::from(UNCONFIRMED_MAX) {
                    let (payload, properties) = (message.payload.clone(), message.properties.clone().unwrap_or_default());
                    let handed = client.try_publish_with_properties(&*filter, QoS::AtLeastOnce, false, payload, properties);
                    handed.map_err(|_| QueueError::Unavailable("the client has no room".to_owned()))?;
                    sent += 1;
                }
                if let Told::Incoming(Incoming::PubAck(_)) = told(&mut polled).await? {
                    confirmed += 1;
                }
            }
            leave(&client, &mut polled).await
        })
    }

    fn run(&mut self, count: u64, at_once: usize) -> Result<(), QueueError> {
        self.read(count, at_once)
    }

    fn remove(&mut self) -> Result<(), QueueError> {
        // Without a session, the one that there is ends.
        let (client, mut polled) = AsyncClient::new(self.broker.options(&self.client_id, None, READER_INFLIGHT), REQUESTS_MAX);
        self.runtime.block_on(async {
            told(&mut polled).await?;
            leave(&client, &mut polled).await
        })
    }
}

async fn told(polled: &mut EventLoop) -> Result<Told, QueueError> {
    polled.poll().await.map_err(|error| problem::of_connection(&error).into())
}

async fn leave(client: &AsyncClient, polled: &mut EventLoop) -> Result<(), QueueError> {
    client.try_disconnect().map_err(|_| QueueError::Unavailable("the client has no room".to_owned()))?;
    while !matches!(told(polled).await?, Told::Outgoing(Outgoing::Disconnect)) {}
    Ok(())
}

//! The bare client of a broker, which a queue on it is measured against (`weir bench`): what a plain program would write, and none of Weir.
//! Its events are counted and not looked at.

use super::QueueError;
use super::url::QueueUrl;
use crate::event::Event;

/// A plain client with an object of its own on the broker.
pub trait Floor {
    /// Empties its object, and puts the same event into it so many times.
    ///
    /// # Errors
    /// When the broker is away or refuses.
    fn fill(&mut self, event: &Event, count: u64) -> Result<(), QueueError>;

    /// Reads and acknowledges so many events, at most `at_once` together.
    ///
    /// # Errors
    /// When the broker is away or refuses, or there are fewer.
    fn run(&mut self, count: u64, at_once: usize) -> Result<(), QueueError>;

    /// Removes what it made, and what the queue beside it left.
    ///
    /// # Errors
    /// When the broker is away or refuses.
    fn remove(&mut self) -> Result<(), QueueError>;
}

/// The URL of a fresh queue, and the bare client beside it.
pub type Beside = (QueueUrl, Box<dyn Floor>);

/// An event of its own, as large as the other: some brokers drop a second copy.
#[must_use]
pub fn numbered(event: &Event, number: u64) -> Event {
    Event { id: format!("{number:0>width$}", width = event.id.len()), ..event.clone() }
}

/// For the broker of a URL: the URL of a fresh queue beside the one that it names, and a bare client. None: there is no broker, or what
/// nobody reads is not kept there, so that no queue can be filled.
///
/// # Errors
/// When the broker is away or refuses.
pub fn open(url: &QueueUrl) -> Result<Option<Beside>, QueueError> {
    match url {
        #[cfg(feature = "redis")]
        QueueUrl::Redis(url) => {
            let (url, floor) = super::redis::floor::open(url)?;
            Ok(Some((QueueUrl::Redis(Box::new(url)), Box::new(floor))))
        }
        #[cfg(feature = "mqtt")]
        QueueUrl::Mqtt(url) => {
            let (url, floor) = super::mqtt::floor::open(url)?;
            Ok(Some((QueueUrl::Mqtt(Box::new(url)), Box::new(floor))))
        }
        #[cfg(feature = "amqp")]
        QueueUrl::Amqp(url) => {
            let (url, floor) = super::amqp::floor::open(url)?;
            Ok(Some((QueueUrl::Amqp(Box::new(url)), Box::new(floor))))
        }
        #[cfg(feature = "kafka")]
        QueueUrl::Kafka(url) => {
            let (url, floor) = super::kafka::floor::open(url)?;
            Ok(Some((QueueUrl::Kafka(Box::new(url)), Box::new(floor))))
        }
        #[cfg(feature = "redis")]
        QueueUrl::RedisTaken(url) => {
            let (url, floor) = super::redis::taken::floor::open(url)?;
            Ok(Some((QueueUrl::RedisTaken(Box::new(url)), Box::new(floor))))
        }
        #[cfg(feature = "nats")]
        QueueUrl::Nats(url) if url.stream.is_some() => {
            let (url, floor) = super::nats::stream::floor::open(url)?;
            Ok(Some((QueueUrl::Nats(Box::new(url)), Box::new(floor))))
        }
        #[cfg(feature = "nsq")]
        QueueUrl::Nsq(url) => {
            let (url, floor) = super::nsq::floor::open(url)?;
            Ok(Some((QueueUrl::Nsq(Box::new(url)), Box::new(floor))))
        }
        _ => Ok(None),
    }
}

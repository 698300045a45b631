//! What the tasks of a queue share: the connection, the stream, the subscriptions, and how they are made, found and left.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, Stream};
use futures_util::TryStreamExt as _;
use tokio::sync::{Notify, OnceCell};
use tokio_util::sync::CancellationToken;

use super::message::Wrapping;
use super::notes::Notes;
use super::server::Server;
use super::subscription::Subscription;
use super::url::JetStreamUrl;
use super::{lock, publish};
use crate::queue::{Depth, Opening, QueueError, Settle, Settlement, Start, SubscriptionDepth, not_subscribed};

/// Consumers of a stream that are looked at, for its depth and for where a new one begins.
const CONSUMERS_MAX: usize = 1_000;

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) url: JetStreamUrl,
    pub(super) wrapping: Wrapping,
    pub(super) server: Server,
    pub(super) notes: Notes,
    stream: OnceCell<Stream>,
    subscriptions: Mutex<BTreeMap<String, Arc<Subscription>>>,
    making: tokio::sync::Mutex<()>,
    pub(super) closed: CancellationToken,
    /// Everything has been made once.
    made_once: AtomicBool,
    /// Wakes the heartbeat: there are notes to write.
    pub(super) noted: Notify,
}

impl Shared {
    pub(super) async fn new(url: &JetStreamUrl, opening: &Opening) -> Result<Self, QueueError> {
        let server = Server::new(url, &opening.process).await?;
        Ok(Self {
            name: opening.name.clone(),
            url: url.clone(),
            wrapping: Wrapping::new(&opening.name, &opening.kind),
            notes: Notes::new(server.jetstream.clone(), &url.stream),
            server,
            stream: OnceCell::new(),
            subscriptions: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            closed: CancellationToken::new(),
            made_once: AtomicBool::new(false),
            noted: Notify::new(),
        })
    }

    /// The age up to which a lease is certainly ours (delivery.md §3).
    pub(super) fn young(&self) -> Duration {
        self.url.lease * 2 / 3
    }

    pub(super) fn connected_once(&self) -> bool {
        self.made_once.load(Ordering::Relaxed)
    }

    pub(super) fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        lock(&self.subscriptions).values().cloned().collect()
    }

    /// The subscription of this name; one that was made by an earlier process is found on the server.
    pub(super) fn find_or_adopt(&self, name: &str) -> Arc<Subscription> {
        let mut subscriptions = lock(&self.subscriptions);
        // Asked for each batch: the name is copied only once.
        if let Some(known) = subscriptions.get(name) {
            return Arc::clone(known);
        }
        let consumer = self.url.group.as_deref().unwrap_or(name);
        let made = Subscription::new(name, consumer, self.closed.child_token());
        subscriptions.insert(name.to_owned(), Arc::clone(&made));
        made
    }

    /// The stream; made if it is not there.
    pub(super) async fn stream(&self) -> Result<&Stream, QueueError> {
        self.server.check()?;
        self.stream.get_or_try_init(|| self.find_or_make_stream()).await
    }

    async fn find_or_make_stream(&self) -> Result<Stream, QueueError> {
        let JetStreamUrl { stream: name, subject, .. } = &self.url;
        let jetstream = &self.server.jetstream;
        match jetstream.get_stream(name).await {
            Ok(stream) => return Ok(stream),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(missing) if missing.code() == 404 => {}
                GetStreamErrorKind::JetStream(refused) => {
                    return Err(QueueError::Invalid(format!("stream `{name}`: {refused}")));
                }
                _ => return Err(QueueError::Unavailable(format!("stream `{name}`: {error} [is JetStream on?]"))),
            },
        }
        let delays = publish::delay_subject(name, ">");
        let schedules = self.server.client.is_server_compatible(2, 12, 0);
        let subjects = if schedules { vec![subject.clone(), delays] } else { vec![subject.clone()] };
        let config = Config { name: name.clone(), subjects, allow_message_schedules: schedules, ..Config::default() };
        let made = jetstream.create_stream(config).await;
        made.map_err(|error| {
            QueueError::Invalid(format!(
                "stream `{name}` is not there and could not be made: {error} [make it with the subject `{subject}`]"
            ))
        })
    }

    /// The consumer of a subscription; made if it is not there and the subscription was made by us.
    pub(super) async fn consumer(&self, subscription: &Subscription) -> Result<PullConsumer, QueueError> {
        if let Some(made) = lock(&subscription.made).clone() {
            return Ok(made);
        }
        let stream = self.stream().await?;
        let _turn = self.making.lock().await;
        if let Some(made) = lock(&subscription.made).clone() {
            return Ok(made);
        }
        let name = subscription.consumer.as_str();
        let away = |error: &dyn std::fmt::Display| QueueError::Unavailable(format!("consumer `{name}`: {error}"));
        let infos = self.consumers(stream).await?;
        let config = match infos.iter().find(|info| info.name == name) {
            Some(info) => self.adapted(&info.config).map_err(|found| self.refused(name, found))?,
            None => {
                let Some(start) = subscription.start.get() else { return Err(not_subscribed(&self.name, &subscription.name)) };
                let untouched = infos.iter().all(|info| info.ack_floor.consumer_sequence == 0);
                Some(self.config(name, if untouched { Start::All } else { *start }))
            }
        };
        let consumer: PullConsumer = match config {
            Some(config) => stream.create_consumer(config).await.map_err(|error| away(&error))?,
            None => stream.get_consumer(name).await.map_err(|error| away(&error))?,
        };
        *lock(&subscription.made) = Some(consumer.clone());
        self.made_once.store(true, Ordering::Relaxed);
        Ok(consumer)
    }

    fn config(&self, name: &str, start: Start) -> pull::Config {
        pull::Config {
            durable_name: Some(name.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.url.lease,
            // How often is the handler's policy, not the server's.
            max_deliver: -1,
            // It counts over all processes: what each holds is bounded by its own room.
            max_ack_pending: -1,
            filter_subject: self.url.subject.clone(),
            deliver_policy: if start == Start::All { DeliverPolicy::All } else { DeliverPolicy::New },
            ..pull::Config::default()
        }
    }

    /// The settings that a consumer of another must have for us; none: it has them. An error says what can't be changed.
    fn adapted(&self, found: &async_nats::jetstream::consumer::Config) -> Result<Option<pull::Config>, &'static str> {
        if found.deliver_subject.is_some() {
            return Err("it is a push consumer");
        }
        if found.ack_policy != AckPolicy::Explicit {
            return Err("its messages are not acknowledged one by one");
        }
        let fits = found.ack_wait == self.url.lease && found.max_deliver == -1 && found.max_ack_pending == -1;
        if fits {
            return Ok(None);
        }
        use async_nats::jetstream::consumer::FromConsumer as _;
        let config = pull::Config::try_from_consumer_config(found.clone()).map_err(|_| "it is no pull consumer")?;
        Ok(Some(pull::Config { ack_wait: self.url.lease, max_deliver: -1, max_ack_pending: -1, ..config }))
    }

    fn refused(&self, consumer: &str, found: &str) -> QueueError {
        QueueError::Invalid(format!(
            "consumer `{consumer}` of stream `{}` can't be used: {found} [expected a pull consumer with explicit acknowledgement]",
            self.url.stream
        ))
    }

    pub(super) fn forget(&self, subscription: &Subscription) {
        *lock(&subscription.made) = None;
    }

    pub(super) async fn subscribe(&self, name: &str, start: Start) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if let Some(group) = &self.url.group
            && let Some(other) = self.subscriptions().iter().find(|other| other.name != name)
        {
            return Err(QueueError::Invalid(format!(
                "`group={group}` is for one handler only, and `{}` and `{name}` both read this queue (leave it out)",
                other.name
            )));
        }
        let subscription = self.find_or_adopt(name);
        subscription.start.get_or_init(|| start);
        match self.consumer(&subscription).await {
            // It is made on the first connection.
            Ok(_) | Err(QueueError::Unavailable(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn unsubscribe(&self, name: &str) -> Result<(), QueueError> {
        let subscription = self.find_or_adopt(name);
        let removed = self.stream().await?.delete_consumer(&subscription.consumer).await;
        removed.map_err(|error| QueueError::Unavailable(format!("consumer `{}`: {error}", subscription.consumer)))?;
        lock(&self.subscriptions).remove(name);
        subscription.fail(not_subscribed(&self.name, name));
        subscription.ended.cancel();
        Ok(())
    }

    pub(super) async fn depth(&self) -> Result<Depth, QueueError> {
        let stream = self.stream().await?;
        let infos = self.consumers(stream).await?;
        let subscriptions: Vec<SubscriptionDepth> = infos
            .into_iter()
            .map(|info| SubscriptionDepth {
                name: info.name,
                events: Some(info.num_pending + info.num_ack_pending as u64),
                oldest: None,
                in_flight: None,
            })
            .collect();
        let most = subscriptions.iter().filter_map(|subscription| subscription.events).max();
        let events = match most {
            Some(most) => most,
            // Nobody reads it yet: all of it waits.
            None => stream.get_info().await.map_err(|error| QueueError::Unavailable(error.to_string()))?.state.messages,
        };
        Ok(Depth { events: Some(events), bytes: None, subscriptions })
    }

    async fn consumers(&self, stream: &Stream) -> Result<Vec<async_nats::jetstream::consumer::Info>, QueueError> {
        let listed = futures_util::StreamExt::take(stream.consumers(), CONSUMERS_MAX).try_collect().await;
        listed.map_err(|error| QueueError::Unavailable(format!("consumers of stream `{}`: {error}", self.url.stream)))
    }

    /// Gives back what is held.
    pub(super) async fn leave(&self, subscription: &Subscription) -> Result<(), QueueError> {
        let all = subscription.hold().everything();
        let batch: Vec<_> = all.into_iter().map(|position| Settlement { position, settle: Settle::Return }).collect();
        if !batch.is_empty() {
            subscription.settle(self, &batch).await?;
        }
        Ok(())
    }
}

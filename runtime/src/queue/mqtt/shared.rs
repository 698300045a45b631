//! What the tasks of a queue share: the broker, the subscriptions, and how they are made, found and left.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::{AsyncClient, Event, Incoming};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connect::{Broker, Session};
use super::link::{Link, Making};
use super::lock;
use super::outbox::{Outbox, Sender, UNCONFIRMED_MAX};
use super::problem::{self, Problem};
use super::reader::{REQUESTS_MAX, Reader};
use super::subscription::Subscription;
use super::url::{MqttUrl, share_name};
use crate::queue::wrapping::Wrapping;
use crate::queue::{Depth, Health, Opening, QueueError, SubscriptionDepth};

/// Longest wait for the first connection when the queue is opened, or a subscription made; later ones are made in the background.
const FIRST_CONNECTION: Duration = Duration::from_secs(4);

/// Publishes in flight over the connection of a subscription: none.
const READER_INFLIGHT: u16 = 16;

/// What the tasks of a queue share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) url: MqttUrl,
    pub(super) wrapping: Wrapping,
    pub(super) outbox: Arc<Outbox>,
    pub(super) closed: CancellationToken,
    process: String,
    broker: Broker,
    /// The connection that publishes.
    link: Arc<Link>,
    subscriptions: Mutex<BTreeMap<String, Arc<Subscription>>>,
}

impl Shared {
    /// A broker that is not connected to yet.
    ///
    /// # Errors
    /// Certificates that can't be read.
    pub(super) async fn new(url: &MqttUrl, opening: &Opening) -> Result<Self, QueueError> {
        Ok(Self {
            name: opening.name.clone(),
            url: url.clone(),
            wrapping: Wrapping::of(opening),
            outbox: Outbox::new(url),
            closed: CancellationToken::new(),
            process: opening.process.clone(),
            broker: Broker::new(url).await?,
            link: Link::new(url, false),
            subscriptions: Mutex::default(),
        })
    }

    /// Begins to connect, and waits a while for it.
    ///
    /// # Errors
    /// When the broker refuses us.
    pub(super) async fn start(self: &Arc<Self>, tasks: &Mutex<JoinSet<()>>) -> Result<(), QueueError> {
        let shared = Arc::clone(self);
        // What it leaves behind is nothing: a name of its own each time.
        let client_id = format!("{}-{:08x}", self.process, fastrand::u32(..));
        let making = Making {
            options: move || shared.broker.options(&client_id, None, UNCONFIRMED_MAX),
            requests_max: usize::from(UNCONFIRMED_MAX) + REQUESTS_MAX,
            ended: self.closed.child_token(),
        };
        lock(tasks).spawn(Arc::clone(&self.link).keep(making, Sender(Arc::clone(&self.outbox))));
        match self.link.settled(FIRST_CONNECTION).await {
            Err(refused @ Problem::Refused(_)) => Err(refused.into()),
            Ok(()) | Err(Problem::Away(_)) => Ok(()),
        }
    }

    pub(super) fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        lock(&self.subscriptions).values().cloned().collect()
    }

    /// The subscription of this name; one that was made by an earlier process is found at the broker.
    pub(super) fn find_or_adopt(&self, name: &str) -> Result<Arc<Subscription>, QueueError> {
        let mut subscriptions = lock(&self.subscriptions);
        // Asked for each batch: the name is copied only once.
        if let Some(known) = subscriptions.get(name) {
            return Ok(Arc::clone(known));
        }
        let share = share_name(self.url.group.as_deref().unwrap_or(name)).map_err(QueueError::Invalid)?;
        let made = Subscription::new(name, &share, &self.url, &self.process, self.closed.child_token());
        subscriptions.insert(name.to_owned(), Arc::clone(&made));
        Ok(made)
    }

    /// The same with its connection kept.
    pub(super) fn connected(
        self: &Arc<Self>,
        name: &str,
        make: bool,
        tasks: &Mutex<JoinSet<()>>,
    ) -> Result<Arc<Subscription>, QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let mut subscription = self.find_or_adopt(name)?;
        if make && !subscription.made.swap(true, Ordering::Relaxed) && subscription.kept.load(Ordering::Relaxed) {
            // It was only looked for, and perhaps not found: it begins anew.
            self.forget(&subscription);
            subscription = self.find_or_adopt(name)?;
            subscription.made.store(true, Ordering::Relaxed);
        }
        if !subscription.kept.swap(true, Ordering::Relaxed) {
            let (shared, of) = (Arc::clone(self), Arc::clone(&subscription));
            let making = Making {
                options: move || {
                    let session = Session { receive_max: of.window() };
                    shared.broker.options(&of.client_id, Some(session), READER_INFLIGHT)
                },
                // All that can be open may end at once.
                requests_max: usize::from(u16::MAX) + REQUESTS_MAX,
                ended: subscription.inbox.ended.clone(),
            };
            let reader = Reader::new(Arc::clone(self), Arc::clone(&subscription));
            let mut tasks = lock(tasks);
            tasks.spawn(Arc::clone(&subscription.link).keep(making, reader));
            tasks.spawn(Arc::clone(&subscription).let_go());
        }
        Ok(subscription)
    }

    fn forget(&self, subscription: &Subscription) {
        lock(&self.subscriptions).remove(&subscription.name);
        subscription.inbox.ended.cancel();
    }

    /// Makes a subscription. It begins with what is published from then on: a broker of MQTT keeps no history.
    pub(super) async fn subscribe(self: &Arc<Self>, name: &str, tasks: &Mutex<JoinSet<()>>) -> Result<(), QueueError> {
        let subscription = self.connected(name, true, tasks)?;
        Ok(subscription.link.settled(FIRST_CONNECTION).await?)
    }

    /// Ends the session of a subscription, with what waits in it. Those of other processes end by themselves.
    pub(super) async fn unsubscribe(&self, name: &str) -> Result<(), QueueError> {
        let subscription = self.find_or_adopt(name)?;
        self.forget(&subscription);
        // Connecting without a session ends the one that there is, and our own connection to it.
        let options = self.broker.options(&subscription.client_id, None, READER_INFLIGHT);
        let (client, mut polled) = AsyncClient::new(options, REQUESTS_MAX);
        let ending = async {
            loop {
                match polled.poll().await {
                    Ok(Event::Incoming(Incoming::ConnAck(_))) => drop(client.try_disconnect()),
                    Ok(Event::Outgoing(Outgoing::Disconnect)) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(problem::of_connection(&error).of(&self.url).into()),
                }
            }
        };
        let ended = tokio::time::timeout(FIRST_CONNECTION, ending).await;
        ended.unwrap_or_else(|_| Err(Problem::Away("the broker does not answer in time".to_owned()).of(&self.url).into()))
    }

    /// The names of the subscriptions of this process; a broker of MQTT tells no more.
    pub(super) fn depth(&self) -> Depth {
        let named = |of: Arc<Subscription>| SubscriptionDepth { name: of.name.clone(), ..SubscriptionDepth::default() };
        let kept = self.subscriptions().into_iter().filter(|of| of.kept.load(Ordering::Relaxed));
        Depth { subscriptions: kept.map(named).collect(), ..Depth::default() }
    }

    pub(super) fn health(&self) -> Health {
        let subscriptions = self.subscriptions();
        let kept = || subscriptions.iter().filter(|of| of.kept.load(Ordering::Relaxed)).map(|of| &of.link);
        let links = || std::iter::once(&self.link).chain(kept());
        let error = links().find_map(|link| link.check().err()).map(|problem| problem.text().to_owned());
        Health { connected_once: links().all(|link| link.once()), error, ..Health::default() }
    }
}

//! One subscription, a session of its own at the broker: what came, pulling from it, and settling.
//!
//! A broker of MQTT takes nothing back. What is given back, or is to be tried again, waits here and is handed out again; the broker is
//! only told what has ended, in order of arrival. If the process goes meanwhile, all of it comes again to the next one with its name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish as Message;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::acks::{Acks, Arrival};
use super::link::Link;
use super::room::Room;
use super::url::MqttUrl;
use super::{lock, message};
use crate::clock::{self, Timestamp};
use crate::event::Event;
use crate::queue::inbox::Inbox;
use crate::queue::wrapping::Wrapping;
use crate::queue::{Delivery, Position, QueueError, Settle, Settlement, Tries, timer};

/// What this process holds at most, unless it is told: the default of most brokers is less.
const WINDOW: u16 = 1_000;

/// What a delivery was made of, to make it again.
#[derive(Debug, Clone)]
pub(super) struct Token {
    event: Arc<Event>,
    first_seen: Timestamp,
    tries: Tries,
}

impl Token {
    fn delivery(&self, position: Position) -> Delivery {
        Delivery { event: Arc::clone(&self.event), position, tries: self.tries, first_seen: self.first_seen }
    }
}

/// One subscription.
pub(super) struct Subscription {
    pub(super) name: String,
    /// `$share/<name>/<filter>`.
    pub(super) shared_filter: String,
    pub(super) client_id: String,
    pub(super) inbox: Inbox<Token>,
    pub(super) link: Arc<Link>,
    /// Made by us, and not only found at the broker.
    pub(super) made: AtomicBool,
    /// Whether its connection is kept.
    pub(super) kept: AtomicBool,
    window: AtomicU16,
    // std's mutex: held for a look or a change, never across an await; settlements and the task that polls share it.
    acking: Mutex<Acking>,
    /// How many acknowledgements have left over which connection.
    left: watch::Sender<Left>,
    /// What waits for another try, by its time.
    waiting: Mutex<BTreeMap<(Timestamp, Position), Token>>,
    /// Wakes who lets it go: the first of them is another.
    sooner: Notify,
    /// Positions of this opening.
    next: AtomicU64,
    opening: u64,
    /// Messages of QoS 0 that found no room.
    dropped: AtomicU64,
}

#[derive(Default)]
struct Acking {
    acks: Acks,
    client: Option<AsyncClient>,
    /// Acknowledgements handed to the client over this connection.
    handed: u64,
    room: Room,
}

/// Acknowledgements that have left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Left {
    connection: u64,
    count: u64,
}

impl Subscription {
    pub(super) fn new(name: &str, share: &str, url: &MqttUrl, process: &str, ended: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            shared_filter: format!("$share/{share}/{}", url.filter),
            client_id: client_id(share, process, &url.filter),
            inbox: Inbox::new(ended),
            link: Link::new(url, true),
            made: AtomicBool::new(false),
            kept: AtomicBool::new(false),
            window: AtomicU16::new(WINDOW),
            acking: Mutex::default(),
            left: watch::Sender::new(Left::default()),
            waiting: Mutex::default(),
            sooner: Notify::new(),
            next: AtomicU64::new(0),
            opening: fastrand::u64(..),
            dropped: AtomicU64::new(0),
        })
    }

    /// The most messages that the broker sends without an acknowledgement; it is told when it is connected to.
    pub(super) fn window(&self) -> u16 {
        self.window.load(Ordering::Relaxed)
    }

    pub(super) fn set_window(&self, most: usize) {
        self.window.store(u16::try_from(most).unwrap_or(u16::MAX).max(1), Ordering::Relaxed);
    }

    /// A connection begins.
    pub(super) fn begin(&self, client: AsyncClient, session_present: bool) {
        let mut acking = lock(&self.acking);
        acking.acks.begin(session_present, usize::from(self.window()));
        acking.room.begin();
        acking.client = Some(client);
        acking.handed = 0;
        self.left.send_modify(|left| *left = Left { connection: left.connection + 1, count: 0 });
    }

    /// The connection is gone.
    pub(super) fn lose(&self) {
        lock(&self.acking).client = None;
        self.left.send_modify(|left| left.connection += 1);
    }

    /// An acknowledgement has left.
    pub(super) fn ack_left(&self) {
        self.left.send_modify(|left| left.count += 1);
    }

    /// A message came.
    pub(super) fn take_in(&self, wrapping: &Wrapping, message: &Message, skip_retained: bool) -> Result<(), QueueError> {
        let position = self.position();
        if message.qos == QoS::AtMostOnce {
            self.take_in_unacknowledged(wrapping, message, position);
            return Ok(());
        }
        let mut acking = lock(&self.acking);
        if acking.room.is_over() {
            return Ok(());
        }
        match acking.acks.arrive(message.pkid, message::print(message), message.dup, position) {
            Arrival::New if message.retain && skip_retained => drop(acking.acks.end(position)),
            Arrival::New => {
                let bytes = self.put(wrapping, message, position);
                acking.room.take(bytes, self.window());
            }
            Arrival::Held | Arrival::Ended => {}
        }
        acking.hand_over()
    }

    /// What was published with QoS 0 comes so too, without a window and without being acknowledged.
    fn take_in_unacknowledged(&self, wrapping: &Wrapping, message: &Message, position: Position) {
        let mut acking = lock(&self.acking);
        if acking.room.has(self.window()) {
            let bytes = self.put(wrapping, message, position);
            acking.room.take(bytes, self.window());
            return;
        }
        drop(acking);
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        // At 1, 2, 4, 8 and so on: seen at once, and no flood.
        if dropped.is_power_of_two() {
            let subscription = &*self.name;
            tracing::warn!(subscription, dropped, "messages of QoS 0 found no room and were dropped [publish with QoS 1]");
        }
    }

    /// Its bytes.
    fn put(&self, wrapping: &Wrapping, message: &Message, position: Position) -> u64 {
        let now = clock::now();
        let event = Arc::new(message::event(wrapping, clock::id().to_string(), message, now));
        let bytes = event.size() as u64;
        let token = Token { event, first_seen: now, tries: Tries::default() };
        self.inbox.put([(token.delivery(position), token)]);
        bytes
    }

    /// Whether messages were let go for which there is room now.
    pub(super) fn has_room_again(&self) -> bool {
        lock(&self.acking).room.is_there_again(self.window())
    }

    fn position(&self) -> Position {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Position(u128::from(self.opening) << 64 | u128::from(number))
    }

    /// Settles: what has ended is acknowledged as far as nothing that came before it is open, the rest is handed out again from here.
    pub(super) async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        let plan = self.inbox.hold().plan(batch, Instant::now(), None);
        let (ended, again): (Vec<_>, Vec<_>) =
            plan.sent.into_iter().partition(|(settlement, _)| settlement.settle == Settle::Ack);
        for (Settlement { position, settle }, token) in again {
            self.hand_out_again(position, settle, token);
        }
        self.acknowledge(&ended).await?;
        let mut hold = self.inbox.hold();
        ended.iter().for_each(|(settlement, _)| hold.settled(settlement.position));
        Ok(plan.late)
    }

    fn hand_out_again(&self, position: Position, settle: Settle, mut token: Token) {
        self.inbox.hold().settled(position);
        if let Settle::Retry { due, tries } = settle {
            token.tries = tries;
            if due > clock::now() {
                lock(&self.waiting).insert((due, position), token);
                self.sooner.notify_one();
                return;
            }
        }
        self.inbox.put([(token.delivery(position), token)]);
    }

    /// Lets go what waits for its time, until the subscription ends.
    pub(super) async fn let_go(self: Arc<Self>) {
        while !self.inbox.ended.is_cancelled() {
            let now = clock::now();
            let due = {
                let mut waiting = lock(&self.waiting);
                let later = waiting.split_off(&(now.after(std::time::Duration::from_millis(1)), Position(0)));
                std::mem::replace(&mut *waiting, later)
            };
            self.inbox.put(due.into_iter().map(|((_, position), token)| (token.delivery(position), token)));
            let first = lock(&self.waiting).keys().next().map(|(due, _)| *due);
            tokio::select! {
                () = timer::until(first, self.sooner.notified()) => {}
                () = self.inbox.ended.cancelled() => {}
            }
        }
    }

    /// An event has ended: its room is free, once.
    fn end(&self, acking: &mut Acking, position: Position, token: &Token) {
        let first = match acking.acks.is_open(position) {
            true => acking.acks.end(position),
            // Nobody waits to hear of it.
            false => {
                let mut hold = self.inbox.hold();
                let held = hold.get_mut(position).is_some();
                hold.settled(position);
                held
            }
        };
        if first {
            acking.room.give(token.event.size() as u64);
        }
    }

    /// Answers when the acknowledgements that can leave have left.
    async fn acknowledge(&self, ended: &[(Settlement, Token)]) -> Result<(), QueueError> {
        let mut left = self.left.subscribe();
        let (connection, handed) = {
            let mut acking = lock(&self.acking);
            let is_open = ended.iter().any(|(settlement, _)| acking.acks.is_open(settlement.position));
            if is_open && acking.client.is_none() {
                drop(acking);
                self.link.check()?;
                return Err(QueueError::Unavailable("not connected".to_owned()));
            }
            for (Settlement { position, .. }, token) in ended {
                self.end(&mut acking, *position, token);
            }
            if !is_open {
                return Ok(());
            }
            acking.hand_over()?;
            // Read under the lock: a connection begins under it too.
            (left.borrow_and_update().connection, acking.handed)
        };
        let gone = |left: &Left| left.connection != connection;
        let seen = left.wait_for(|left| gone(left) || left.count >= handed).await.map(|left| gone(&left));
        match seen {
            Ok(false) => Ok(()),
            Ok(true) | Err(_) => {
                self.link.check()?;
                Err(QueueError::Unavailable("the connection was lost before an acknowledgement had left".to_owned()))
            }
        }
    }
}

impl Acking {
    /// Hands the client what can be acknowledged. Its channel has room for all that can be open.
    fn hand_over(&mut self) -> Result<(), QueueError> {
        let Some(client) = self.client.as_ref() else { return Ok(()) };
        for pkid in self.acks.take() {
            let message = Message { qos: QoS::AtLeastOnce, pkid, ..Message::default() };
            let handed = client.try_ack(&message);
            handed.map_err(|error| QueueError::Unavailable(format!("an acknowledgement found no room: {error}")))?;
            self.handed += 1;
        }
        Ok(())
    }
}

/// The same for every start of a process, so that it finds what it left; another for another filter, or the session would still bring
/// what the old one asked for, and two queues of one handler would take each other's place.
fn client_id(share: &str, process: &str, filter: &str) -> String {
    let digest = blake3::hash(filter.as_bytes()).to_hex();
    format!("{share}-{process}-{}", digest.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_stable_and_differ_by_filter() {
        let id = client_id("weir-thumbnail", "host-1", "images/new");
        assert!(id.starts_with("weir-thumbnail-host-1-") && id.len() == "weir-thumbnail-host-1-".len() + 8, "{id}");
        assert_eq!(id, client_id("weir-thumbnail", "host-1", "images/new"));
        assert_ne!(id, client_id("weir-thumbnail", "host-1", "images/old"));
    }
}

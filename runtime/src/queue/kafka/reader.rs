//! The thread that reads a subscription: it polls its consumer whatever happens, so that the group never takes this process for dead,
//! answers when partitions come and go, takes records as pulls ask for them, and commits.
//!
//! Each partition has a queue of its own in librdkafka, polled only when something may be taken; one that nobody asks for is paused after a
//! while, which also frees what was read ahead. One commit is on its way at a time, the next has all that happened meanwhile. Considered
//! and left out: the crate's `StreamConsumer`, whose wake-ups can be lost. Here whatever wakes only ends a wait that is short anyway.

mod assignment;
mod commits;
mod record;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;

use self::commits::Commits;
use self::record::took_in;
use super::client::{self, Context, Told, failed, refuses};
use super::desk::Slot;
use super::shared::Shared;
use super::subscription::Subscription;
use crate::clock;
use crate::queue::QueueError;

/// Longest wait without looking: a wake-up that librdkafka lost costs that much.
const LOOK: Duration = Duration::from_millis(100);

/// A partition that nobody asks for is paused after this.
const PAUSE_AFTER: Duration = Duration::from_secs(1);

/// Records taken of one partition before the next has its turn.
const TURN: usize = 32;

/// Renewals of a lease: often enough that a slow one, and one that failed and is tried again, come before two thirds of it are over.
const BEATS: u32 = 6;

/// Before a consumer that can't be used any more is made anew.
const AGAIN: Duration = Duration::from_secs(1);

/// One partition that is read.
struct Source {
    queue: PartitionQueue<Context>,
    /// Since when nothing was taken though it could have been, as nobody asked.
    idle: Option<Instant>,
    paused: bool,
}

struct Reader {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    // Before the consumer: each of them keeps it alive.
    sources: BTreeMap<Slot, Source>,
    consumer: Arc<BaseConsumer<Context>>,
    context: Context,
    /// What partitions came and went, and is not answered yet.
    told: VecDeque<Told>,
    /// Since when the first of those is being answered.
    leaving: Option<Instant>,
    commits: Commits,
    /// The topics that were asked for.
    topics: usize,
    turn: usize,
}

/// Reads until the subscription ends.
pub(super) fn read(shared: &Arc<Shared>, subscription: &Arc<Subscription>) {
    while !subscription.is_over() {
        match Reader::new(shared, subscription).and_then(Reader::run) {
            Ok(()) => break,
            Err(error) => subscription.fail(error),
        }
        let slots = subscription.desk().slots();
        if subscription.desk().lose(&slots) {
            subscription.tell_lapsed();
        }
        // Woken early by the end only: a pull would have it tried again at once, for ever.
        let until = Instant::now() + AGAIN;
        while !subscription.is_over() && Instant::now() < until {
            subscription.waker.wait(until.saturating_duration_since(Instant::now()));
        }
    }
    subscription.left.cancel();
    subscription.wake_pulls();
}

impl Reader {
    fn new(shared: &Arc<Shared>, subscription: &Arc<Subscription>) -> Result<Self, QueueError> {
        let context = Context::new(&shared.name, Arc::clone(&subscription.waker));
        let config = client::member(&shared.url, &shared.process, &subscription.group, shared.partition_count());
        let consumer = config.create_with_context(context.clone());
        let mut consumer: BaseConsumer<Context> =
            consumer.map_err(|error| failed(&format!("consumer group `{}`", subscription.group), &error))?;
        let waker = Arc::clone(&subscription.waker);
        consumer.set_nonempty_callback(move || waker.wake());
        Ok(Self {
            shared: Arc::clone(shared),
            subscription: Arc::clone(subscription),
            sources: BTreeMap::new(),
            consumer: Arc::new(consumer),
            context,
            told: VecDeque::new(),
            leaving: None,
            commits: Commits::default(),
            topics: 0,
            turn: 0,
        })
    }

    fn run(mut self) -> Result<(), QueueError> {
        while !self.subscription.is_over() {
            self.join()?;
            self.serve()?;
            self.answer();
            self.renew();
            self.take();
            if self.subscription.desk().get_due(clock::now()) {
                self.subscription.wake_pulls();
            }
            self.commit();
            self.subscription.waker.wait(self.pause());
        }
        self.end();
        Ok(())
    }

    /// Subscribes to the topic, and to that of long waits once it is there.
    fn join(&mut self) -> Result<(), QueueError> {
        let retry = self.shared.url.retry_topic(&self.subscription.group);
        let has_retries = self.subscription.has_retries.load(std::sync::atomic::Ordering::Relaxed);
        let topics = [self.shared.url.topic.as_str(), retry.as_str()];
        let topics = topics.get(..1 + usize::from(has_retries)).unwrap_or_default();
        if topics.len() > self.topics {
            self.consumer.subscribe(topics).map_err(|error| failed("subscribing", &error))?;
            self.topics = topics.len();
        }
        Ok(())
    }

    /// A commit that the broker takes from us renews the lease.
    fn renew(&self) {
        let (age, lease) = (self.subscription.age(), self.shared.url.lease);
        if age > lease / BEATS {
            let mut desk = self.subscription.desk();
            if !desk.is_dirty() {
                desk.touch();
            }
        }
        if age > lease * 2 / 3 {
            self.subscription.lapse();
        }
    }

    /// Polls what is no record.
    fn serve(&mut self) -> Result<(), QueueError> {
        let consumer = Arc::clone(&self.consumer);
        loop {
            match consumer.poll(Duration::ZERO) {
                Some(Ok(record)) => self.take_in(&record),
                Some(Err(error)) => self.wrong(&error)?,
                None if self.context.served() => {}
                None => break,
            }
        }
        for told in self.context.take() {
            match told {
                Told::Committed(answer, each) => self.committed(answer, &each),
                other => self.told.push_back(other),
            }
        }
        Ok(())
    }

    /// An error of the consumer: pulls that wait are told, and it goes on by itself; or it has to be made anew.
    fn wrong(&mut self, error: &KafkaError) -> Result<(), QueueError> {
        let fatal = self.consumer.client().fatal_error();
        let reason = self.context.take_problem().map(|(_, reason)| reason);
        let what = match reason {
            Some(reason) if !reason.is_empty() => format!("reading topic `{}`: {reason}", self.shared.url.topic),
            _ => format!("reading topic `{}`", self.shared.url.topic),
        };
        let failed = match &fatal {
            Some((code, _)) => failed(&what, &KafkaError::Global(*code)),
            None => failed(&what, error),
        };
        let problem = match failed {
            // Somebody may change it while the server runs.
            QueueError::Invalid(text) => QueueError::Unavailable(text),
            other => other,
        };
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) || fatal.is_some() {
            return Err(problem);
        }
        match client::code(error) {
            // One of several brokers, or one of its connections: it is told when none is left.
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => {}
            // The session was lost: the partitions are taken away next.
            Some(RDKafkaErrorCode::PollExceeded) => {}
            Some(code) => {
                self.shared.stir();
                if refuses(code) {
                    tracing::warn!(queue = %self.shared.name, error = %problem, "reading was refused");
                }
                self.subscription.fail(problem);
            }
            None => self.subscription.fail(problem),
        }
        Ok(())
    }

    /// Takes records as pulls ask for them, a few of each partition by turns.
    fn take(&mut self) {
        let mut missing = self.subscription.desk().missing();
        let slots: Vec<Slot> = self.sources.keys().copied().collect();
        self.turn = self.turn.wrapping_add(1);
        let mut dry = 0;
        let mut at = self.turn;
        while missing > 0 && dry < slots.len() {
            let Some(slot) = slots.get(at % slots.len().max(1)).copied() else { break };
            at += 1;
            let took = self.take_some(slot, missing.min(TURN));
            dry = if took == 0 { dry + 1 } else { 0 };
            if took > 0 {
                missing = self.subscription.desk().missing();
            }
        }
        self.pause_and_resume(missing > 0);
    }

    fn take_some(&mut self, slot: Slot, most: usize) -> usize {
        let mut took = 0;
        while took < most && self.subscription.desk().may_take(slot) {
            let Some(source) = self.sources.get_mut(&slot) else { break };
            source.idle = None;
            match source.queue.poll(Duration::ZERO) {
                Some(Ok(record)) => {
                    took_in(&self.shared, &self.subscription, &record);
                    took += 1;
                }
                Some(Err(error)) => {
                    if let Err(problem) = self.wrong(&error) {
                        self.subscription.fail(problem);
                    }
                    break;
                }
                None => break,
            }
        }
        took
    }

    fn take_in(&self, record: &BorrowedMessage) {
        took_in(&self.shared, &self.subscription, record);
    }

    /// Partitions from which nothing is taken are paused after a while, and go on when something may be.
    fn pause_and_resume(&mut self, wanted: bool) {
        let now = Instant::now();
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (slot, source) in &mut self.sources {
            let may = wanted && self.subscription.desk().may_take(*slot);
            if may {
                source.idle = None;
                if std::mem::take(&mut source.paused) {
                    resume.push(*slot);
                }
            } else if !source.paused && now.duration_since(*source.idle.get_or_insert(now)) >= PAUSE_AFTER {
                source.paused = true;
                pause.push(*slot);
            }
        }
        let none = |slots: &[Slot]| slots.is_empty();
        let paused = if none(&pause) { Ok(()) } else { self.consumer.pause(&self.list(&pause)) };
        let resumed = if none(&resume) { Ok(()) } else { self.consumer.resume(&self.list(&resume)) };
        if let Err(error) = paused.and(resumed) {
            tracing::debug!(queue = %self.shared.name, %error, "partitions could not be paused or resumed");
        }
        for slot in pause {
            // What was read ahead is no longer valid: looking for it lets go of it.
            let Some(source) = self.sources.get(&slot) else { continue };
            if let Some(Ok(record)) = source.queue.poll(Duration::ZERO) {
                self.take_in(&record);
            }
        }
    }

    /// How long nothing is to be done.
    fn pause(&self) -> Duration {
        let due = self.subscription.desk().next_due().map(|due| due.since(clock::now()));
        due.map_or(LOOK, |due| due.min(LOOK)).max(Duration::from_millis(1))
    }

    fn topic(&self, slot: Slot) -> String {
        if slot.retry { self.shared.url.retry_topic(&self.subscription.group) } else { self.shared.url.topic.clone() }
    }

    fn slot(&self, topic: &str, partition: i32) -> Slot {
        Slot { retry: topic != self.shared.url.topic, partition }
    }

    fn list(&self, slots: &[Slot]) -> rdkafka::TopicPartitionList {
        let mut list = rdkafka::TopicPartitionList::new();
        for slot in slots {
            list.add_partition(&self.topic(*slot), slot.partition);
        }
        list
    }
}

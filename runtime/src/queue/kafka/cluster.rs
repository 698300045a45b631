//! Questions to a cluster that have nothing to do with reading or publishing: which partitions there are, how far they go, what groups have
//! committed, and what has to be made or removed. Everything here blocks: it is called from tokio's blocking threads and from readers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;

use super::client::{self, ANSWER_MAX, Context, Told, failed, refuses};
use super::lock;
use super::native::{self, Committed, Handle};
use super::url::TopicUrl;
use crate::clock::Timestamp;
use crate::queue::QueueError;

/// One question while a cluster may be away: between two, what went wrong is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Longest wait for a place in a group that others are in: they answer with their next heartbeat.
const JOIN_MAX: Duration = Duration::from_secs(15);

/// The largest message of a topic whose settings we may not see: what brokers have by default.
const MESSAGE_BYTES: u64 = 1_048_588;

/// The largest message of a topic that Weir makes: more than `max-event` is likely to be, as the topic is there for long.
const MADE_MESSAGE_BYTES: &str = "16777216";

/// A cluster that is asked.
pub(super) struct Cluster {
    pub(super) url: TopicUrl,
    process: String,
    /// A client that joins no group; of the kind that never makes a topic by asking for it.
    probe: BaseConsumer<Context>,
    context: Context,
    /// Looks at single records; made when one is looked at.
    looking: Mutex<Option<BaseConsumer<Context>>>,
}

impl Cluster {
    /// Sets a client up; connects to nothing yet. `group` is one that it may read as, and does not join: without one, librdkafka (2.12.1)
    /// dies of an answer that it asked the wrong broker about a group's commits.
    ///
    /// # Errors
    /// When the settings can't be used: a certificate that can't be read, for example.
    pub(super) fn new(url: &TopicUrl, queue: &str, process: &str, group: &str) -> Result<Self, QueueError> {
        let context = Context::new(queue, Arc::default());
        let mut config = client::config(url, process);
        config.set("group.id", url.group.as_deref().unwrap_or(group)).set("enable.auto.commit", "false");
        let probe = config.create_with_context(context.clone()).map_err(|error| failed(&format!("`{url}`"), &error))?;
        Ok(Self { url: url.clone(), process: process.to_owned(), probe, context, looking: Mutex::default() })
    }

    /// The partitions of a topic; none: there is no such topic. Waits for the cluster for so long.
    pub(super) fn partitions(&self, topic: &str, most: Duration) -> Result<Option<Vec<i32>>, QueueError> {
        let begun = Instant::now();
        loop {
            let left = most.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
            match self.partitions_now(topic, LOOK.min(left)) {
                Err(QueueError::Unavailable(_)) if begun.elapsed() < most => {}
                answer => return answer,
            }
        }
    }

    fn partitions_now(&self, topic: &str, most: Duration) -> Result<Option<Vec<i32>>, QueueError> {
        let what = format!("topic `{topic}`");
        let _handle = Handle::new(self.probe.client().native_ptr(), topic).map_err(|error| failed(&what, &error))?;
        let metadata = self.probe.fetch_metadata(Some(topic), most).map_err(|error| self.explain(&what, &error))?;
        // Whatever was wrong before is over.
        drop(self.heard());
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None if found.partitions().is_empty() => Err(QueueError::Unavailable(format!("{what}: it has no leader yet"))),
            None => Ok(Some(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(code) => Err(failed(&what, &KafkaError::MetadataFetch(code))),
        }
    }

    /// An error with what the client told beside it: a refused login looks like a cluster that is away.
    fn explain(&self, what: &str, error: &KafkaError) -> QueueError {
        match self.heard() {
            Some((code, reason)) if refuses(code) => {
                let QueueError::Invalid(text) = failed(what, &KafkaError::Global(code)) else { return failed(what, error) };
                QueueError::Invalid(format!("{text}: {reason}"))
            }
            Some((_, reason)) => QueueError::Unavailable(format!("{what}: {reason}")),
            None => failed(what, error),
        }
    }

    /// What the client has told of the cluster as a whole since it was last asked.
    fn heard(&self) -> Option<(RDKafkaErrorCode, String)> {
        // Errors wait in the client until it is polled, each for a poll of its own.
        drop(self.probe.poll(Duration::ZERO));
        while self.context.served() {
            drop(self.probe.poll(Duration::ZERO));
        }
        // It does nothing with its own group.
        self.context.take_problem().filter(|(code, _)| *code != RDKafkaErrorCode::GroupAuthorizationFailed)
    }

    /// The lowest offset of a partition, and the one after its last.
    pub(super) fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), QueueError> {
        let answer = self.probe.fetch_watermarks(topic, partition, ANSWER_MAX);
        answer.map_err(|error| self.explain(&format!("topic `{topic}`"), &error))
    }

    /// The consumer groups of the cluster.
    pub(super) fn groups(&self) -> Result<Vec<String>, QueueError> {
        let listed = self.probe.client().fetch_group_list(None, ANSWER_MAX);
        let listed = listed.map_err(|error| self.explain("listing consumer groups", &error))?;
        Ok(listed.groups().iter().map(|group| group.name().to_owned()).collect())
    }

    /// What a group has committed of a topic.
    pub(super) fn committed(&self, group: &str, topic: &str) -> Result<Vec<Committed>, QueueError> {
        let mut all = self.committed_of_all(group)?;
        all.retain(|committed| committed.topic == topic);
        Ok(all)
    }

    /// What a group has committed of all topics.
    pub(super) fn committed_of_all(&self, group: &str) -> Result<Vec<Committed>, QueueError> {
        let all = native::of_group(self.probe.client().native_ptr(), group, ANSWER_MAX);
        let mut all = match all {
            Err(error) if client::code(&error) == Some(RDKafkaErrorCode::GroupIdNotFound) => return Ok(Vec::new()),
            all => all.map_err(|error| self.explain(&format!("consumer group `{group}`"), &error))?,
        };
        all.retain(|committed| committed.offset >= 0);
        Ok(all)
    }

    /// Commits where a group begins with a topic that nobody in it reads.
    pub(super) fn commit(&self, group: &str, topic: &str, all: &[(i32, i64, String)]) -> Result<(), QueueError> {
        let what = format!("consumer group `{group}`");
        let mut config = client::config(&self.url, &self.process);
        config.set("group.id", group);
        let consumer: BaseConsumer<Context> =
            config.create_with_context(self.context.closing()).map_err(|error| failed(&what, &error))?;
        let list = list(topic, all, |_| true).map_err(|error| failed(&what, &error))?;
        match consumer.commit(&list, CommitMode::Sync) {
            Err(error) if client::code(&error) == Some(RDKafkaErrorCode::UnknownMemberId) => {
                // Another process may have made it meanwhile, and be in it.
                if self.committed(group, topic)?.is_empty() { self.commit_in(group, topic, all) } else { Ok(()) }
            }
            committed => committed.map_err(|error| self.explain(&what, &error)),
        }
    }

    /// The same while others are in the group, for other topics: only who is in it may commit then.
    fn commit_in(&self, group: &str, topic: &str, all: &[(i32, i64, String)]) -> Result<(), QueueError> {
        let what = format!("consumer group `{group}`");
        let mut config = client::member(&self.url, &self.process, group, all.len());
        config.remove("group.instance.id");
        let context = self.context.another();
        let consumer = config.create_with_context(context.clone());
        let consumer: BaseConsumer<Context> = consumer.map_err(|error| failed(&what, &error))?;
        let begun = Instant::now();
        let joined = consumer.subscribe(&[topic]).map_err(|error| failed(&what, &error));
        let mut answer = joined.and(Err(QueueError::Unavailable(format!("{what} could not be joined in time"))));
        while answer.is_err() && begun.elapsed() < JOIN_MAX {
            drop(consumer.poll(LOOK));
            let Some(Told::Assign(ours)) = context.take().into_iter().next() else { continue };
            // What another process has committed meanwhile stays.
            let there = self.committed(group, topic)?;
            let is_there = |partition: i32| there.iter().any(|committed| committed.partition == partition);
            let is_ours = |partition: i32| ours.iter().any(|(_, other)| *other == partition) && !is_there(partition);
            let list = list(topic, all, is_ours).map_err(|error| failed(&what, &error))?;
            let committed = consumer.incremental_assign(&list).and_then(|()| consumer.commit(&list, CommitMode::Sync));
            answer = committed.map_err(|error| failed(&what, &error));
            break;
        }
        // It leaves when it is dropped.
        context.close();
        answer
    }

    /// When the record at an offset, or the first after it, was published; none: it did not come in time. The group is one that we may
    /// read as: librdkafka asks for one, and joins none.
    pub(super) fn published(&self, (group, topic): (&str, &str), partition: i32, offset: i64) -> Option<Timestamp> {
        let mut looking = lock(&self.looking);
        if looking.is_none() {
            let mut config = client::config(&self.url, &self.process);
            // Single records.
            config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
            config.set("queued.min.messages", "1").set("fetch.message.max.bytes", "65536");
            *looking = config.create_with_context(self.context.closing()).ok();
        }
        let consumer: &BaseConsumer<Context> = looking.as_ref()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).ok()?;
        consumer.assign(&list).ok()?;
        let begun = Instant::now();
        let mut published = None;
        while published.is_none() && begun.elapsed() < ANSWER_MAX / 5 {
            if let Some(Ok(record)) = consumer.poll(LOOK) {
                published = record.timestamp().to_millis().map(|millis| Timestamp(u64::try_from(millis).unwrap_or(0)));
            }
        }
        // What it read ahead is of no use.
        let _ = consumer.unassign();
        published
    }

    /// Makes a topic; one that is there by now is as good.
    pub(super) fn make(&self, topic: &str, partitions: usize, settings: &[(&str, &str)]) -> Result<(), QueueError> {
        let copies = self.url.replication.map_or(-1, i32::from);
        let mut new = NewTopic::new(topic, i32::try_from(partitions).unwrap_or(1), TopicReplication::Fixed(copies));
        new = new.set("max.message.bytes", MADE_MESSAGE_BYTES);
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let what = format!("topic `{topic}` is not there and could not be made");
        let admin = self.admin(&what)?;
        let made = wait(admin.create_topics(&[new], &options())).map_err(|error| self.explain(&what, &error))?;
        match made.into_iter().next() {
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(failed(&what, &KafkaError::AdminOp(code))),
        }
    }

    /// Removes a topic, if it is there.
    pub(super) fn remove(&self, topic: &str) -> Result<(), QueueError> {
        let what = format!("topic `{topic}`");
        let admin = self.admin(&what)?;
        let removed = wait(admin.delete_topics(&[topic], &options())).map_err(|error| self.explain(&what, &error))?;
        match removed.into_iter().next() {
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => Ok(()),
            Some(Err((_, code))) => Err(failed(&what, &KafkaError::AdminOp(code))),
        }
    }

    /// Removes what a group has of these topics, if it is there; and the group, unless it has others.
    pub(super) fn forget(&self, group: &str, topics: &[&str]) -> Result<(), QueueError> {
        let what = format!("consumer group `{group}`");
        let (ours, others): (Vec<_>, Vec<_>) =
            self.committed_of_all(group)?.into_iter().partition(|committed| topics.contains(&committed.topic.as_str()));
        if !others.is_empty() {
            let mut list = TopicPartitionList::new();
            for committed in &ours {
                list.add_partition(&committed.topic, committed.partition);
            }
            let begun = Instant::now();
            loop {
                let removed = native::remove(self.probe.client().native_ptr(), group, &list, ANSWER_MAX);
                let Err(error) = removed else { return Ok(()) };
                match client::code(&error) {
                    // The group forgets who has left once the others have come together anew; nobody tells when.
                    Some(RDKafkaErrorCode::GroupSubscribedToTopic) if begun.elapsed() < self.url.lease.min(ANSWER_MAX) => {
                        std::thread::sleep(LOOK / 5);
                    }
                    Some(RDKafkaErrorCode::GroupSubscribedToTopic) => return Err(still_read(&what)),
                    _ => return Err(self.explain(&what, &error)),
                }
            }
        }
        let admin = self.admin(&what)?;
        let removed = wait(admin.delete_groups(&[group], &options())).map_err(|error| self.explain(&what, &error))?;
        match removed.into_iter().next() {
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound))) => Ok(()),
            Some(Err((_, RDKafkaErrorCode::NonEmptyGroup))) => Err(still_read(&what)),
            Some(Err((_, code))) => Err(failed(&what, &KafkaError::AdminOp(code))),
        }
    }

    /// The largest message that a topic takes.
    pub(super) fn message_bytes(&self, topic: &str) -> u64 {
        let asked = self.admin("settings").ok().and_then(|admin| {
            let answer = wait(admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options())).ok()?;
            let settings = answer.into_iter().next()?.ok()?;
            settings.get("max.message.bytes")?.value.as_ref()?.parse().ok()
        });
        // It may not be allowed to ask.
        asked.unwrap_or(MESSAGE_BYTES)
    }

    fn admin(&self, what: &str) -> Result<AdminClient<Context>, QueueError> {
        client::config(&self.url, &self.process).create_with_context(self.context.clone()).map_err(|error| failed(what, &error))
    }
}

fn still_read(what: &str) -> QueueError {
    QueueError::Unavailable(format!("{what}: other processes still read it [stop them first]"))
}

/// Offsets with their metadata, of those partitions that `takes` names.
fn list(topic: &str, all: &[(i32, i64, String)], takes: impl Fn(i32) -> bool) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset, metadata) in all.iter().filter(|(partition, ..)| takes(*partition)) {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(*offset))?;
        element.set_metadata(metadata);
    }
    Ok(list)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER_MAX)).operation_timeout(Some(ANSWER_MAX))
}

/// The crate answers administration in futures; librdkafka's own time-out ends them.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(answer)
}

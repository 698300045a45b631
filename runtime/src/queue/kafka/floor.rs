//! The bare client that a topic is measured against (`weir bench`): what a plain program would write, and none of Weir. Its events are
//! counted and not looked at.
//!
//! One consumer, which polls record by record and commits after each batch. It begins where it was last filled: what a measurement that
//! failed left behind is not read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;
use tokio::runtime::{Builder, Runtime};

use super::client::{self, ANSWER_MAX, Context, failed};
use super::cluster::Cluster;
use super::making::wait_for;
use super::message::KEY;
use super::message::{self, Record};
use super::publish;
use super::url::TopicUrl;
use crate::event::Event;
use crate::queue::QueueError;
use crate::queue::floor::Floor;

/// Partitions of both topics, where the URL names none and its topic is not there.
const PARTITIONS: u32 = 4;

/// How long what was measured is kept, if nobody removes it: an hour.
const KEPT_MILLIS: &str = "3600000";

/// Longest wait for the next record.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// A plain client.
pub(in crate::queue) struct KafkaFloor {
    /// Futures of the crate's administration need one.
    runtime: Runtime,
    cluster: Cluster,
    /// Its own topic, and its group.
    topic: String,
    /// The topic beside it.
    queue: TopicUrl,
    consumer: BaseConsumer<Context>,
    /// Where each partition begins.
    begin: BTreeMap<i32, i64>,
}

/// Makes a topic; and the URL of one beside it.
pub(in crate::queue) fn open(url: &TopicUrl) -> Result<(TopicUrl, KafkaFloor), QueueError> {
    let made = Builder::new_current_thread().enable_all().build();
    let runtime = made.map_err(|error| QueueError::Unavailable(format!("no runtime could be made: {error}")))?;
    let own = crate::clock::id();
    let process = format!("bench-{own}");
    let cluster = Cluster::new(url, "bench", &process, &process)?;
    let partitions = match (url.partitions, cluster.partitions(&url.topic, ANSWER_MAX)?) {
        (Some(partitions), _) => partitions,
        (None, Some(found)) => u32::try_from(found.len()).unwrap_or(PARTITIONS),
        (None, None) => PARTITIONS,
    };
    let topic = format!("{}.bench-{own}", url.topic);
    let queue = TopicUrl { topic: topic.clone(), partitions: Some(partitions), group: None, ..url.clone() };
    let topic = format!("{topic}.client");
    let consumer = {
        let _in = runtime.enter();
        cluster.make(&topic, partitions as usize, &[("retention.ms", KEPT_MILLIS)])?;
        wait_for(&cluster, &topic)?;
        let mut config = client::config(url, &process);
        config.set("group.id", &topic).set("enable.auto.commit", "false");
        let consumer = config.create_with_context(Context::new("bench", Arc::default()).closing());
        consumer.map_err(|error| failed(&format!("consumer group `{topic}`"), &error))?
    };
    Ok((queue.clone(), KafkaFloor { runtime, cluster, topic, queue, consumer, begin: BTreeMap::new() }))
}

impl KafkaFloor {
    /// Where each partition ends.
    fn ends(&self) -> Result<BTreeMap<i32, i64>, QueueError> {
        let partitions = wait_for(&self.cluster, &self.topic)?;
        let end = |partition: i32| Ok((partition, self.cluster.watermarks(&self.topic, partition)?.1));
        partitions.into_iter().map(end).collect()
    }

    fn wrong(&self, error: &KafkaError) -> QueueError {
        failed(&format!("topic `{}`", self.topic), error)
    }

    fn list(&self, offsets: &BTreeMap<i32, i64>) -> Result<TopicPartitionList, QueueError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            let added = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset));
            added.map_err(|error| self.wrong(&error))?;
        }
        Ok(list)
    }

    fn read(&self, count: u64, at_once: usize) -> Result<BTreeMap<i32, i64>, QueueError> {
        let mut next = self.begin.clone();
        let (mut read, mut last) = (0, Instant::now());
        while read < count {
            match self.consumer.poll(SILENT_MAX) {
                Some(Ok(record)) => {
                    next.insert(record.partition(), record.offset() + 1);
                    (read, last) = (read + 1, Instant::now());
                    if read % at_once as u64 == 0 {
                        let committed = self.consumer.commit(&self.list(&next)?, CommitMode::Async);
                        committed.map_err(|error| self.wrong(&error))?;
                    }
                }
                // A broker that was not there for a moment.
                Some(Err(error)) if last.elapsed() > SILENT_MAX => return Err(self.wrong(&error)),
                None if last.elapsed() > SILENT_MAX => {
                    return Err(QueueError::Unavailable(format!("topic `{}` lost events: {read} of {count} came", self.topic)));
                }
                Some(Err(_)) | None => {}
            }
        }
        Ok(next)
    }
}

impl Floor for KafkaFloor {
    fn fill(&mut self, event: &Event, count: u64) -> Result<(), QueueError> {
        self.begin = self.ends()?;
        let record = message::record(event, KEY);
        let config = client::producer(&self.cluster.url, "bench", publish::size(&record).max(1_000));
        let producer: BaseProducer = config.create().map_err(|error| self.wrong(&error))?;
        for _ in 0..count {
            send(&producer, &self.topic, &record).map_err(|error| self.wrong(&error))?;
        }
        producer.flush(ANSWER_MAX * 2).map_err(|error| self.wrong(&error))?;
        let before: i64 = self.begin.values().sum();
        let there = self.ends()?.values().sum::<i64>().abs_diff(before);
        if there < count {
            return Err(QueueError::Unavailable(format!("topic `{}` took {there} of {count} events", self.topic)));
        }
        Ok(())
    }

    fn run(&mut self, count: u64, at_once: usize) -> Result<(), QueueError> {
        let begin = self.list(&self.begin)?;
        self.consumer.assign(&begin).map_err(|error| self.wrong(&error))?;
        let next = self.read(count, at_once.max(1))?;
        self.consumer.commit(&self.list(&next)?, CommitMode::Sync).map_err(|error| self.wrong(&error))?;
        self.begin = next;
        self.consumer.unassign().map_err(|error| self.wrong(&error))
    }

    fn remove(&mut self) -> Result<(), QueueError> {
        let Self { runtime, cluster, topic, queue, .. } = self;
        // Also from within another runtime.
        let removed = thread::scope(|scope| {
            let removing = scope.spawn(|| {
                let _in = runtime.enter();
                cluster.forget(topic, &[topic])?;
                cluster.remove(topic)?;
                cluster.remove(&queue.topic)
            });
            removing.join()
        });
        removed.unwrap_or_else(|_| Err(QueueError::Unavailable("removing the topics was stopped".to_owned())))
    }
}

/// Waits for room where there is none.
fn send(producer: &BaseProducer, topic: &str, record: &Record) -> Result<(), KafkaError> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (key, value) in &record.headers {
        headers = headers.insert(rdkafka::message::Header { key, value: Some(value) });
    }
    let payload = record.payload.as_deref().unwrap_or_default();
    let mut prepared = BaseRecord::<str, [u8]>::to(topic).headers(headers).payload(payload);
    if let Some(key) = &record.key {
        prepared = prepared.key(key);
    }
    loop {
        match producer.send(prepared) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                prepared = same;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

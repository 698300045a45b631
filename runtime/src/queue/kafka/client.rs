//! Clients of a cluster: how they are set up, what they tell, and what their errors mean. The one place that knows librdkafka's settings.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::url::TopicUrl;
use super::waker::Waker;
use crate::queue::QueueError;

/// Longest wait for an answer of a broker; a connection that was cut silently is noticed by it.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How many records are read ahead of one partition: enough that a handler need not wait for the next read.
const AHEAD: u32 = 1_000;

/// How much is read ahead of all partitions of a subscription; and of each at least, and at most.
const AHEAD_KIB: usize = 64 * 1024;
const AHEAD_EACH_KIB: (usize, usize) = (64, 4 * 1024);

/// Bytes of one answer to a read, unless a single record is larger.
const FETCH_BYTES: u32 = 16 * 1024 * 1024;

/// Bytes of events that wait for their confirmation.
const UNCONFIRMED_KIB: u32 = 64 * 1024;

/// What all clients of a queue have in common. An error names the setting that can't be used.
pub(super) fn config(url: &TopicUrl, process: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    let millis = |duration: Duration| duration.as_millis().to_string();
    config
        .set("bootstrap.servers", url.brokers.join(","))
        .set("client.id", process)
        .set("security.protocol", security(url))
        .set("socket.timeout.ms", millis(ANSWER_MAX))
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        // Tried again soon, and with librdkafka's own jitter.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // New partitions are found within that.
        .set("topic.metadata.refresh.interval.ms", "30000")
        .set_log_level(RDKafkaLogLevel::Warning);
    if let Some(login) = &url.login {
        config.set("sasl.mechanism", login.mechanism.name());
        config.set("sasl.username", &login.user).set("sasl.password", &login.password.0);
    }
    if let Some(authority) = &url.authority {
        config.set("ssl.ca.location", authority.display().to_string());
    }
    if let Some((cert, key)) = &url.identity {
        config.set("ssl.certificate.location", cert.display().to_string());
        config.set("ssl.key.location", key.display().to_string());
    }
    config
}

fn security(url: &TopicUrl) -> &'static str {
    match (url.tls, url.login.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    }
}

/// A member of a group that reads so many partitions.
pub(super) fn member(url: &TopicUrl, process: &str, group: &str, partitions: usize) -> ClientConfig {
    let mut config = config(url, process);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Of a partition without a commit: it came after the subscription was made.
        .set("auto.offset.reset", "earliest")
        .set("max.poll.interval.ms", url.rebalance.as_millis().to_string())
        .set("queued.min.messages", AHEAD.to_string())
        .set("queued.max.messages.kbytes", (AHEAD_KIB / partitions.max(1)).clamp(AHEAD_EACH_KIB.0, AHEAD_EACH_KIB.1).to_string())
        .set("fetch.max.bytes", FETCH_BYTES.to_string())
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "100");
    if url.new_protocol {
        config.set("group.protocol", "consumer");
    } else {
        // Ten heartbeats in a lease, but not fewer than one in three seconds, as everybody has.
        let heartbeat = (url.lease / 10).min(Duration::from_secs(3)).as_millis();
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", url.lease.as_millis().to_string())
            .set("heartbeat.interval.ms", heartbeat.to_string());
    }
    if url.static_member {
        config.set("group.instance.id", process);
    }
    config
}

/// A producer whose confirmations mean that all copies have it.
pub(super) fn producer(url: &TopicUrl, process: &str, message_bytes: u64) -> ClientConfig {
    let mut config = config(url, process);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", url.compression.name())
        .set("message.timeout.ms", ANSWER_MAX.as_millis().to_string())
        .set("message.max.bytes", message_bytes.to_string())
        .set("queue.buffering.max.kbytes", UNCONFIRMED_KIB.to_string())
        // What is published at once is gathered; nobody waits long for others.
        .set("linger.ms", "1")
        // As the clients of other languages do, so that a key's events are in one partition whoever publishes them.
        .set("partitioner", "murmur2_random");
    config
}

/// What a client tells.
pub(super) enum Told {
    /// These partitions (topic, partition) are to be read.
    Assign(Vec<(String, i32)>),
    /// These are to be given up.
    Revoke(Vec<(String, i32)>),
    /// A commit was answered, and each partition's own error.
    Committed(Result<(), RDKafkaErrorCode>, Vec<(String, i32, Option<RDKafkaErrorCode>)>),
}

/// Hears what a client tells, and keeps it for whoever polls it.
#[derive(Clone)]
pub(super) struct Context(Arc<Hears>);

struct Hears {
    /// The queue's name, for logs.
    queue: String,
    // std's mutex: held to put in or take out; the thread that polls, and librdkafka's own by way of errors.
    told: Mutex<Vec<Told>>,
    problem: Mutex<Option<(RDKafkaErrorCode, String)>>,
    /// A poll answered something that was no record.
    served: AtomicBool,
    /// Partitions are given up without asking.
    closing: AtomicBool,
    waker: Arc<Waker>,
}

impl Context {
    pub(super) fn new(queue: &str, waker: Arc<Waker>) -> Self {
        Self(Arc::new(Hears {
            queue: queue.to_owned(),
            told: Mutex::default(),
            problem: Mutex::default(),
            served: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            waker,
        }))
    }

    /// One for a client that reads nothing.
    pub(super) fn closing(&self) -> Self {
        let other = Self::new(&self.0.queue, Arc::default());
        other.close();
        other
    }

    /// One for a client that is polled beside this one's.
    pub(super) fn another(&self) -> Self {
        Self::new(&self.0.queue, Arc::default())
    }

    fn tell(&self, told: Told) {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        self.0.served.store(true, Ordering::Relaxed);
    }

    /// What was told since.
    pub(super) fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.0.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a poll that answered nothing served something, so that there may be more.
    pub(super) fn served(&self) -> bool {
        self.0.served.swap(false, Ordering::Relaxed)
    }

    /// From now on partitions are given up without asking.
    pub(super) fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
    }

    /// The last problem with the cluster as a whole.
    pub(super) fn take_problem(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.0.served.store(true, Ordering::Relaxed);
        // What matters comes as an error too; here it is for who looks.
        tracing::debug!(queue = %self.0.queue, ?level, facility, text, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let mut problem = self.0.problem.lock().unwrap_or_else(PoisonError::into_inner);
        // A refused login is also told as a cluster that is away, after it.
        if refuses(code) || !problem.as_ref().is_some_and(|(known, _)| refuses(*known)) {
            *problem = Some((code, reason.to_owned()));
        }
        drop(problem);
        self.0.served.store(true, Ordering::Relaxed);
        self.0.waker.wake();
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let list = partitions.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
        let assign = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.0.closing.load(Ordering::Relaxed) {
            // Nobody reads any more; an answer is owed all the same.
            let _ = match (assign, consumer.rebalance_protocol()) {
                (true, RebalanceProtocol::Cooperative) => consumer.incremental_assign(partitions),
                (true, _) => consumer.assign(partitions),
                (false, RebalanceProtocol::Cooperative) => consumer.incremental_unassign(partitions),
                (false, _) => consumer.unassign(),
            };
            return;
        }
        self.tell(if assign { Told::Assign(list) } else { Told::Revoke(list) });
    }

    fn commit_callback(&self, result: KafkaResult<()>, partitions: &TopicPartitionList) {
        let result = result.map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown));
        let each = partitions.elements();
        let each = each.iter().map(|element| {
            let error = element.error().err().and_then(|error| error.rdkafka_error_code());
            (element.topic().to_owned(), element.partition(), error)
        });
        self.tell(Told::Committed(result, each.collect()));
    }
}

/// What an error of a call means for who called; `what` was done.
pub(super) fn failed(what: &str, error: &KafkaError) -> QueueError {
    let code = code(error);
    let text = match (code, error) {
        // Not the value: it may be a password.
        (_, KafkaError::ClientConfig(_, why, setting, _)) if !setting.contains("password") => {
            format!("{what}: the client does not take `{setting}`: {why}")
        }
        (_, KafkaError::ClientConfig(_, _, setting, _)) => format!("{what}: the client does not take `{setting}`"),
        (Some(code), _) => format!("{what}: {code}"),
        (None, _) => format!("{what}: {error}"),
    };
    match code {
        Some(code) if refuses(code) => QueueError::Invalid(format!("{text} [{}]", advice(code))),
        None if matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) => QueueError::Invalid(text),
        _ => QueueError::Unavailable(text),
    }
}

/// The code of an error, of administration too.
pub(super) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Whether trying again is no use before somebody changes something.
pub(super) fn refuses(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code,
        Authentication
            | SaslAuthenticationFailed
            | TopicAuthorizationFailed
            | GroupAuthorizationFailed
            | ClusterAuthorizationFailed
            | UnsupportedSASLMechanism
            | SSL
            | InvalidTopic
            | PolicyViolation
            | InvalidReplicationFactor
            | InvalidPartitions
            | FencedInstanceId
            | UnreleasedInstanceId
    )
}

fn advice(code: RDKafkaErrorCode) -> &'static str {
    use RDKafkaErrorCode::*;
    match code {
        Authentication | SaslAuthenticationFailed => "check user, password and `sasl=` of the URL",
        UnsupportedSASLMechanism => "the broker has other mechanisms: set `sasl=`",
        TopicAuthorizationFailed => "the user needs READ, WRITE and DESCRIBE on the topic",
        GroupAuthorizationFailed => "the user needs READ on the group, and DELETE to forget it",
        ClusterAuthorizationFailed => "the user may not do that on this cluster",
        FencedInstanceId | UnreleasedInstanceId => "processes that share a queue need a `[server] name` each",
        SSL => "check `ca=`, `cert=` and `key=` of the URL",
        _ => "check the settings of the URL and the broker",
    }
}

//! Queue URLs: the one place that documents them all (DESIGN.md §4).
//!
//! ```text
//! memory:          in this process, bounded; for tests and embedding
//! disk:./data      embedded and durable; the default; survives kill -9
//! redis://[user:password@]host:6379/0?stream=k     a Redis stream; `rediss://` with TLS, `redis+unix:///path?db=0` a socket
//!         lease=30s     how long an event is ours without being renewed, 1s to 1h
//!         maxlen=N      keep about so many entries, read or not; else what some group still needs
//!         group=NAME    take over the position of an existing consumer group; for one handler
//!         ca=FILE       (rediss) certificates that sign the server's own; cert=FILE, key=FILE: our own
//! nats://[user:password@|token@]host:4222/subject     a subject of core NATS, wildcards too; `tls://` a connection that must be secured
//!         stream=S      of a JetStream stream: kept, and acknowledged
//!         lease=30s     (stream) how long an event is ours without being renewed, 1s to 1h
//!         reply-within=5s     (no stream) when a request is answered at the latest
//!         group=NAME    the durable consumer, or queue group, in place of the handler's own; for one handler
//!         ca=, cert=, key=     as above; creds=FILE  NATS credentials
//! mqtt://[user:password@]host:1883/topic     a topic filter of an MQTT 5 broker, `+` and `#` included; `mqtts://` (8883) with TLS
//!         session=1h    how long the broker keeps what waits for a process that is away, 1s to 366d
//!         lease=30s     how long what waits in the store is ours without being renewed, 1s to 1h
//!         keepalive=10s how often a silent connection is asked whether it is still there, 5s to 1h
//!         retain=take   a new session begins with what the broker retains (default `skip`)
//!         unread=drop   a publish that nobody subscribes to is done (default `refuse`: an error)
//!         max-packet=N  largest message in bytes that is taken (16777216); the broker drops larger ones
//!         group=, ca=, cert=, key=     as above
//! nsq://[:secret@]host:4150[,host:4150…]/topic      a topic of NSQ, on these nsqd; `nsq+lookup://host:4161[,…]/topic` on those that
//!                                                   nsqlookupd names
//!         lease=, group=     as above; lease from 2s
//!         http=host:4151[,…] (nsq) where each nsqd answers HTTP: for depths, and to remove subscriptions
//!         poll=30s           (nsq+lookup) how often nsqlookupd is asked
//!         tls=yes            connections must be secured; ca=, cert=, key= as above
//! redis://…?list=k     a Redis list: `LPUSH` adds, Weir takes as `RPOP` does, reliably
//!         take=left     takes as `LPOP` does, and adds as `RPUSH` does; `right` is the default
//!         lease=, ca=, cert=, key=     as above
//! redis://…?zset=k     a Redis sorted set of messages scored by when they are due
//!         unit=ms       scores are milliseconds since 1970; `s`, seconds with or without a fraction, is the default
//!         lease=, ca=, cert=, key=     as above
//! redis://…?channel=k     a Redis channel, at most once: what comes while nobody listens is lost
//! redis://…?pattern=k.*     all channels whose names match; events are not published to it
//!         ca=, cert=, key=     as above
//! kafka://[user:password@]host:9092[,host:9092…]/topic     a topic of Apache Kafka; `kafka+ssl://` with TLS
//!         partitions=N, replication=N     make the topic if it is not there
//!         lease=30s, rebalance=60s     how long a process may be silent; how long runs may go on when partitions move
//!         protocol=consumer     the group protocol of Kafka 4 (KIP-848); member=static     keep partitions over a restart
//!         compression=none|gzip|snappy|lz4|zstd; sasl=plain|scram-sha-256|scram-sha-512; group=, ca=, cert=, key=     as above
//! amqp://[user:password@]host:5672/vhost/queue     a queue of RabbitMQ; the virtual host `/` is written `%2F`; `amqps://` with TLS
//! amqp://host:5672/vhost[/name]?exchange=e         an exchange, with a queue for each handler: `<group>-<handler>.<name, or the exchange>`
//!         routing=KEY           what its queues are bound with, once or more; default: `#`
//!         exchange-type=topic   what it is, or is made as: direct, topic, fanout; default: whatever is there, else topic
//!         publish-key=KEY       what is published with; default: `routing` if that is one key without wildcards, else the event's type
//!         queue-type=quorum     what queues are made as: or classic
//!         hold=30m              the server's `consumer_timeout`: how long a delivery can be kept
//!         heartbeat=10s         how often each side shows that it is there, 1s to 60s; a cut connection is noticed after two
//!         ca=, cert=, key=      (amqps) as above; with a certificate and no user, the server takes the user from it (EXTERNAL)
//! ```
//!
//! Other schemes of the design are known by name, so that the error can say "not in this version yet".

use std::fmt;
use std::path::{Path, PathBuf};

/// Schemes that the design names and this version does not open.
const LATER: [&str; 6] = ["pulsar", "rocketmq", "sqs", "kinesis", "postgres", "postgresql"];

/// What this version opens, for errors.
const KNOWN: &str = "`memory:`, `disk:FOLDER`, `redis://…?stream=KEY` (or `list=`, `zset=`, `channel=`, `pattern=`), `nats://…/SUBJECT`, `mqtt://…/TOPIC`, \
    `nsq://…/TOPIC`, `nsq+lookup://…/TOPIC`, `amqp://…/VHOST/QUEUE`, `kafka://…/TOPIC`";

/// A parsed queue URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueUrl {
    /// `memory:`.
    Memory,
    /// `disk:FOLDER`; absolute when `base` was.
    Disk(PathBuf),
    /// `redis://…?stream=`.
    #[cfg(feature = "redis")]
    Redis(Box<super::redis::url::StreamUrl>),
    /// `mqtt://…/topic`.
    #[cfg(feature = "mqtt")]
    Mqtt(Box<super::mqtt::url::MqttUrl>),
    /// `redis://…?list=` and `?zset=`.
    #[cfg(feature = "redis")]
    RedisTaken(Box<super::redis::taken::url::TakenUrl>),
    /// `redis://…?channel=` and `?pattern=`.
    #[cfg(feature = "redis")]
    RedisChannel(Box<super::redis::channel::url::ChannelUrl>),
    /// `nats://…/subject`, with or without `?stream=`.
    #[cfg(feature = "nats")]
    Nats(Box<super::nats::url::NatsUrl>),
    /// `nsq://…/topic`, `nsq+lookup://…/topic`.
    #[cfg(feature = "nsq")]
    Nsq(Box<super::nsq::url::NsqUrl>),
    /// `kafka://…/topic`.
    #[cfg(feature = "kafka")]
    Kafka(Box<super::kafka::url::TopicUrl>),
    /// `amqp://…/vhost/queue`, or with `exchange=`.
    #[cfg(feature = "amqp")]
    Amqp(Box<super::amqp::url::AmqpUrl>),
}

impl QueueUrl {
    /// Reads a URL; a relative folder is taken from `base`.
    ///
    /// # Errors
    /// Says what was found and what is known; never repeats a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(format!("`{text}` is no queue URL (known: {KNOWN})"));
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        match scheme {
            "memory" | "disk" if !query.is_empty() => {
                let name = query.split(['=', '&']).next().unwrap_or_default();
                Err(format!("parameter `{name}` is not known (`{scheme}:` has none)"))
            }
            "memory" if path.is_empty() => Ok(Self::Memory),
            "memory" => Err(format!("`memory:` takes nothing after the colon, found `{path}`")),
            "disk" if path.is_empty() => Err("`disk:` needs a folder, for example `disk:./data/events`".to_owned()),
            "disk" if path.starts_with("//") => {
                Err("`disk:` takes a folder without `//`, for example `disk:./data/events`".to_owned())
            }
            "disk" if path.contains('\0') => Err("a folder's name holds no NUL character".to_owned()),
            "disk" => Ok(Self::Disk(base.join(path.strip_prefix("./").unwrap_or(path)))),
            #[cfg(feature = "redis")]
            "redis" | "rediss" | "redis+unix" => redis(text, base, query),
            #[cfg(not(feature = "redis"))]
            "redis" | "rediss" | "redis+unix" => {
                Err("this build has no Redis (build it with the cargo feature `redis`)".to_owned())
            }
            #[cfg(feature = "mqtt")]
            "mqtt" | "mqtts" => Ok(Self::Mqtt(Box::new(super::mqtt::url::MqttUrl::parse(text, base)?))),
            #[cfg(not(feature = "mqtt"))]
            "mqtt" | "mqtts" => Err("this build has no MQTT (build it with the cargo feature `mqtt`)".to_owned()),
            #[cfg(feature = "nats")]
            "nats" | "tls" => Ok(Self::Nats(Box::new(super::nats::url::NatsUrl::parse(text, base)?))),
            #[cfg(not(feature = "nats"))]
            "nats" | "tls" => Err("this build has no NATS (build it with the cargo feature `nats`)".to_owned()),
            #[cfg(feature = "nsq")]
            "nsq" | "nsq+lookup" => Ok(Self::Nsq(Box::new(super::nsq::url::NsqUrl::parse(text, base)?))),
            #[cfg(not(feature = "nsq"))]
            "nsq" | "nsq+lookup" => Err("this build has no NSQ (build it with the cargo feature `nsq`)".to_owned()),
            #[cfg(feature = "kafka")]
            "kafka" | "kafka+ssl" => Ok(Self::Kafka(Box::new(super::kafka::url::TopicUrl::parse(text, base)?))),
            #[cfg(not(feature = "kafka"))]
            "kafka" | "kafka+ssl" => Err("this build has no Kafka (build it with the cargo feature `kafka`)".to_owned()),
            #[cfg(feature = "amqp")]
            "amqp" | "amqps" => Ok(Self::Amqp(Box::new(super::amqp::url::AmqpUrl::parse(text, base)?))),
            #[cfg(not(feature = "amqp"))]
            "amqp" | "amqps" => Err("this build has no RabbitMQ (build it with the cargo feature `amqp`)".to_owned()),
            later if LATER.contains(&later) => Err(format!("`{later}:` queues are not in this version yet (known: {KNOWN})")),
            other => Err(format!("scheme `{other}` is not known (known: {KNOWN})")),
        }
    }

    /// Whether it takes over a group that is there: that has one position, for one handler.
    #[must_use]
    pub fn takes_group(&self) -> bool {
        match self {
            Self::Memory | Self::Disk(_) => false,
            #[cfg(feature = "redis")]
            Self::Redis(stream) => stream.group.is_some(),
            // They have no groups.
            #[cfg(feature = "redis")]
            Self::RedisTaken(_) | Self::RedisChannel(_) => false,
            #[cfg(feature = "nats")]
            Self::Nats(subject) => subject.group.is_some(),
            #[cfg(feature = "mqtt")]
            Self::Mqtt(topic) => topic.group.is_some(),
            #[cfg(feature = "nsq")]
            Self::Nsq(topic) => topic.group.is_some(),
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.group.is_some(),
            // Its queues are named in the URL, or are the subscriptions'.
            #[cfg(feature = "amqp")]
            Self::Amqp(_) => false,
        }
    }

    /// The adapter's name, as in `weir queues`.
    #[must_use]
    pub fn adapter(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk(_) => "disk",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "redis",
            #[cfg(feature = "mqtt")]
            Self::Mqtt(_) => "mqtt",
            #[cfg(feature = "redis")]
            Self::RedisTaken(url) => super::redis::taken::TakenQueue::adapter(url.kind),
            #[cfg(feature = "redis")]
            Self::RedisChannel(_) => "redis-channel",
            #[cfg(feature = "nats")]
            Self::Nats(subject) if subject.stream.is_some() => "jetstream",
            #[cfg(feature = "nats")]
            Self::Nats(_) => "nats",
            #[cfg(feature = "nsq")]
            Self::Nsq(_) => "nsq",
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => "kafka",
            #[cfg(feature = "amqp")]
            Self::Amqp(_) => "amqp",
        }
    }
}

/// Which kind of Redis queue it is says the parameter that names its key.
#[cfg(feature = "redis")]
fn redis(text: &str, base: &Path, query: &str) -> Result<QueueUrl, String> {
    use super::redis::{channel::url::ChannelUrl, taken::url::TakenUrl, url::StreamUrl};
    let has = |names: &[&str]| query.split('&').any(|pair| names.contains(&pair.split('=').next().unwrap_or_default()));
    if has(&["list", "zset"]) {
        return Ok(QueueUrl::RedisTaken(Box::new(TakenUrl::parse(text, base)?)));
    }
    if has(&["channel", "pattern"]) {
        return Ok(QueueUrl::RedisChannel(Box::new(ChannelUrl::parse(text, base)?)));
    }
    Ok(QueueUrl::Redis(Box::new(StreamUrl::parse(text, base)?)))
}

/// Without credentials.
impl fmt::Display for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Disk(folder) => write!(f, "disk:{}", folder.display()),
            #[cfg(feature = "redis")]
            Self::Redis(stream) => stream.fmt(f),
            #[cfg(feature = "mqtt")]
            Self::Mqtt(topic) => topic.fmt(f),
            #[cfg(feature = "redis")]
            Self::RedisTaken(url) => url.fmt(f),
            #[cfg(feature = "redis")]
            Self::RedisChannel(url) => url.fmt(f),
            #[cfg(feature = "nats")]
            Self::Nats(subject) => subject.fmt(f),
            #[cfg(feature = "nsq")]
            Self::Nsq(topic) => topic.fmt(f),
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.fmt(f),
            #[cfg(feature = "amqp")]
            Self::Amqp(place) => place.fmt(f),
        }
    }
}

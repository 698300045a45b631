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
//! nats://[user:password@|token@]host:4222/subject?stream=S     a NATS JetStream stream; `tls://` a connection that must be secured
//!         lease=, group=, ca=, cert=, key=     as above; creds=FILE  NATS credentials
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
const LATER: [&str; 11] = [
    "nsq",
    "nsq+lookup",
    "kafka",
    "mqtt",
    "mqtts",
    "pulsar",
    "rocketmq",
    "sqs",
    "kinesis",
    "postgres",
    "postgresql",
];

/// What this version opens, for errors.
const KNOWN: &str = "`memory:`, `disk:FOLDER`, `redis://…?stream=KEY`, `nats://…/SUBJECT?stream=NAME`, `amqp://…/VHOST/QUEUE`";

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
    /// `nats://…/subject?stream=`.
    #[cfg(feature = "nats")]
    JetStream(Box<super::nats::url::JetStreamUrl>),
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
            "redis" | "rediss" | "redis+unix" => Ok(Self::Redis(Box::new(super::redis::url::StreamUrl::parse(text, base)?))),
            #[cfg(not(feature = "redis"))]
            "redis" | "rediss" | "redis+unix" => {
                Err("this build has no Redis (build it with the cargo feature `redis`)".to_owned())
            }
            #[cfg(feature = "nats")]
            "nats" | "tls" => Ok(Self::JetStream(Box::new(super::nats::url::JetStreamUrl::parse(text, base)?))),
            #[cfg(not(feature = "nats"))]
            "nats" | "tls" => Err("this build has no NATS (build it with the cargo feature `nats`)".to_owned()),
            #[cfg(feature = "amqp")]
            "amqp" | "amqps" => Ok(Self::Amqp(Box::new(super::amqp::url::AmqpUrl::parse(text, base)?))),
            #[cfg(not(feature = "amqp"))]
            "amqp" | "amqps" => Err("this build has no RabbitMQ (build it with the cargo feature `amqp`)".to_owned()),
            later if LATER.contains(&later) => Err(format!("`{later}:` queues are not in this version yet (known: {KNOWN})")),
            other => Err(format!("scheme `{other}` is not known (known: {KNOWN})")),
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
            #[cfg(feature = "nats")]
            Self::JetStream(_) => "jetstream",
            #[cfg(feature = "amqp")]
            Self::Amqp(_) => "amqp",
        }
    }
}

/// Without credentials.
impl fmt::Display for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Disk(folder) => write!(f, "disk:{}", folder.display()),
            #[cfg(feature = "redis")]
            Self::Redis(stream) => stream.fmt(f),
            #[cfg(feature = "nats")]
            Self::JetStream(stream) => stream.fmt(f),
            #[cfg(feature = "amqp")]
            Self::Amqp(place) => place.fmt(f),
        }
    }
}

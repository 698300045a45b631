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
//! redis://…?list=k     a Redis list: `LPUSH` adds, Weir takes as `RPOP` does, reliably
//!         take=left     takes as `LPOP` does, and adds as `RPUSH` does; `right` is the default
//!         lease=, ca=, cert=, key=     as above
//! redis://…?zset=k     a Redis sorted set of messages scored by when they are due
//!         unit=ms       scores are milliseconds since 1970; `s`, seconds with or without a fraction, is the default
//!         lease=, ca=, cert=, key=     as above
//! redis://…?channel=k     a Redis channel, at most once: what comes while nobody listens is lost
//! redis://…?pattern=k.*     all channels whose names match; events are not published to it
//!         ca=, cert=, key=     as above
//! nats://[user:password@|token@]host:4222/subject?stream=S     a NATS JetStream stream; `tls://` a connection that must be secured
//!         lease=, group=, ca=, cert=, key=     as above; creds=FILE  NATS credentials
//! ```
//!
//! Other schemes of the design are known by name, so that the error can say "not in this version yet".

use std::fmt;
use std::path::{Path, PathBuf};

/// Schemes that the design names and this version does not open.
const LATER: [&str; 13] = [
    "nsq",
    "nsq+lookup",
    "amqp",
    "amqps",
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
const KNOWN: &str = "`memory:`, `disk:FOLDER`, `redis://…?stream=KEY` (or `list=`, `zset=`, `channel=`, `pattern=`), `nats://…/SUBJECT?stream=NAME`";

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
    /// `redis://…?list=` and `?zset=`.
    #[cfg(feature = "redis")]
    RedisTaken(Box<super::redis::taken::url::TakenUrl>),
    /// `redis://…?channel=` and `?pattern=`.
    #[cfg(feature = "redis")]
    RedisChannel(Box<super::redis::channel::url::ChannelUrl>),
    /// `nats://…/subject?stream=`.
    #[cfg(feature = "nats")]
    JetStream(Box<super::nats::url::JetStreamUrl>),
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
            #[cfg(feature = "nats")]
            "nats" | "tls" => Ok(Self::JetStream(Box::new(super::nats::url::JetStreamUrl::parse(text, base)?))),
            #[cfg(not(feature = "nats"))]
            "nats" | "tls" => Err("this build has no NATS (build it with the cargo feature `nats`)".to_owned()),
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
            #[cfg(feature = "redis")]
            Self::RedisTaken(url) => super::redis::taken::TakenQueue::adapter(url.kind),
            #[cfg(feature = "redis")]
            Self::RedisChannel(_) => "redis-channel",
            #[cfg(feature = "nats")]
            Self::JetStream(_) => "jetstream",
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
            #[cfg(feature = "redis")]
            Self::RedisTaken(url) => url.fmt(f),
            #[cfg(feature = "redis")]
            Self::RedisChannel(url) => url.fmt(f),
            #[cfg(feature = "nats")]
            Self::JetStream(stream) => stream.fmt(f),
        }
    }
}

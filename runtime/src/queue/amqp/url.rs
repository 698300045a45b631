//! `amqp://host:5672/vhost/queue`: a queue of RabbitMQ, or with `exchange=` a queue for each handler, and how they are read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::config::Secret;
use crate::source::delay;

/// How long a delivery may be kept, unless `hold=` says otherwise: the server's own default (`consumer_timeout`).
const HOLD: Duration = Duration::from_secs(30 * 60);

/// Bounds on `hold=`: below, nothing could be tried again; above, a message would hang on one process for days.
const HOLDS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(7 * 24 * 3_600));

/// How often each side shows that it is there, unless `heartbeat=` says otherwise: a connection that was cut is noticed after two of them.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Bounds on `heartbeat=`: whole seconds on the wire; more than a minute, and what a cut connection held would be away for too long.
const HEARTBEATS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Longest names: with what Weir puts before and after them they have to fit into 255 bytes.
const NAME_MAX: usize = 160;

/// Most routing keys that a queue is bound with.
const ROUTING_MAX: usize = 64;

/// What the URLs look like, for errors.
const EXAMPLE: &str = "as in `amqp://127.0.0.1:5672/%2F/orders`, or `amqp://127.0.0.1:5672/%2F?exchange=events&routing=orders.*`";

/// Everything but what stands in names without doubt.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A place on RabbitMQ: `amqp://`, or `amqps://` with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpUrl {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether the connection is secured.
    pub tls: bool,
    /// The user and the password; none: with a certificate of our own, who that says we are, else `guest`.
    pub login: Option<(String, Secret)>,
    /// The virtual host.
    pub vhost: String,
    /// What is read there.
    pub place: Place,
    /// `queue-type=`: of queues that Weir declares.
    pub kind: Kind,
    /// `hold=`: the longest that a delivery can be kept: the server's `consumer_timeout`.
    pub hold: Duration,
    /// `heartbeat=`: how often each side shows that it is there.
    pub heartbeat: Duration,
    /// `ca=`: certificates that sign the server's own, in place of the system's.
    pub authority: Option<PathBuf>,
    /// `cert=` and `key=`: our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One queue for all.
    Queue(String),
    /// An exchange, with a queue for each handler.
    Exchange(Exchange),
}

/// An exchange, and how queues are bound to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// `exchange=`.
    pub name: String,
    /// The second part of the names of its queues: the path's, else the exchange's.
    pub base: String,
    /// `exchange-type=`: what it is, or is made as; none: whatever is there, else it is made as `topic`.
    pub kind: Option<String>,
    /// `routing=`: the keys that its queues are bound with; never empty.
    pub routing: Vec<String>,
    /// `publish-key=`, or `routing=` when that is one key without wildcards: what is published with; none: the event's type.
    pub publish: Option<String>,
}

impl Place {
    /// The queue's name, or the exchange's.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Exchange(Exchange { name, .. }) => name,
        }
    }

    /// What it is called in `weir queues`.
    #[must_use]
    pub fn adapter(&self) -> &'static str {
        match self {
            Self::Queue(_) => "amqp-queue",
            Self::Exchange(_) => "amqp",
        }
    }
}

/// A type of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Replicated, and it counts deliveries.
    Quorum,
    /// On one node, and it does not.
    Classic,
}

impl AmqpUrl {
    /// Reads a URL; relative paths are taken from `base`.
    ///
    /// # Errors
    /// Says what is wrong and what is known; never repeats a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if url.fragment().is_some() {
            return Err("nothing follows the parameters: write `#` in a value as `%23`".to_owned());
        }
        let tls = url.scheme() == "amqps";
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| format!("the host is missing, {EXAMPLE}"))?;
        let port = url.port().unwrap_or(if tls { 5671 } else { 5672 });
        if port == 0 {
            return Err("port 0 is no port to connect to".to_owned());
        }
        let parameters = Parameters::read(&url, base)?;
        if !tls && (parameters.authority.is_some() || parameters.identity.is_some()) {
            return Err("`ca=`, `cert=` and `key=` are for `amqps:`".to_owned());
        }
        let (vhost, path) = path(&url)?;
        let place = match (parameters.exchange, path) {
            (Some(name), path) => {
                let single = |keys: &[String]| keys.first().filter(|key| keys.len() == 1 && !key.contains(['*', '#'])).cloned();
                let publish = parameters.publish.or_else(|| single(&parameters.routing));
                let routing = match parameters.routing {
                    none if none.is_empty() && parameters.kind.as_deref() == Some("direct") => {
                        return Err("a `direct` exchange needs `routing=KEY`".to_owned());
                    }
                    none if none.is_empty() => vec!["#".to_owned()],
                    some => some,
                };
                let base = path.unwrap_or_else(|| name.clone());
                Place::Exchange(Exchange { name, base, kind: parameters.kind, routing, publish })
            }
            (None, Some(queue)) if parameters.routing.is_empty() && parameters.kind.is_none() && parameters.publish.is_none() => {
                Place::Queue(queue)
            }
            (None, Some(_)) => return Err("`routing=`, `exchange-type=` and `publish-key=` need `exchange=NAME`".to_owned()),
            (None, None) => return Err(format!("the queue is missing, {EXAMPLE}")),
        };
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            tls,
            login: login(&url)?,
            vhost,
            place,
            kind: parameters.queue_kind,
            hold: parameters.hold,
            heartbeat: parameters.heartbeat,
            authority: parameters.authority,
            identity: parameters.identity,
        })
    }
}

/// Without credentials.
impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}/{}", self.host, self.port, utf8_percent_encode(&self.vhost, ENCODED))?;
        match &self.place {
            Place::Queue(queue) => write!(f, "/{}", utf8_percent_encode(queue, ENCODED)),
            Place::Exchange(exchange) => {
                if exchange.base != exchange.name {
                    write!(f, "/{}", utf8_percent_encode(&exchange.base, ENCODED))?;
                }
                write!(f, "?exchange={}", utf8_percent_encode(&exchange.name, ENCODED))
            }
        }
    }
}

/// What stands after the question mark.
struct Parameters {
    exchange: Option<String>,
    kind: Option<String>,
    routing: Vec<String>,
    publish: Option<String>,
    queue_kind: Kind,
    hold: Duration,
    heartbeat: Duration,
    authority: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Parameters {
    fn read(url: &Url, base: &Path) -> Result<Self, String> {
        let mut read = Self {
            exchange: None,
            kind: None,
            routing: Vec::new(),
            publish: None,
            queue_kind: Kind::Quorum,
            hold: HOLD,
            heartbeat: HEARTBEAT,
            authority: None,
            identity: None,
        };
        let (mut cert, mut key) = (None, None);
        let mut seen = Vec::new();
        for (name, value) in url.query_pairs() {
            if seen.contains(&name) && name != "routing" {
                return Err(format!("parameter `{}` is given twice", name.escape_debug()));
            }
            if value.is_empty() {
                return Err(format!("parameter `{}` is empty", name.escape_debug()));
            }
            match &*name {
                "ca" => read.authority = Some(base.join(&*value)),
                "cert" => cert = Some(base.join(&*value)),
                "key" => key = Some(base.join(&*value)),
                _ => read.set(&name, &value)?,
            }
            seen.push(name);
        }
        read.identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("`cert=` and `key=` go together".to_owned()),
        };
        Ok(read)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "exchange" => self.exchange = Some(named("exchange", value)?),
            "exchange-type" => {
                if !["direct", "topic", "fanout"].contains(&value) {
                    return Err(format!("`exchange-type` is `{}`, expected `direct`, `topic` or `fanout`", value.escape_debug()));
                }
                self.kind = Some(value.to_owned());
            }
            "routing" if self.routing.len() == ROUTING_MAX => {
                return Err(format!("`routing` is given more than {ROUTING_MAX} times"));
            }
            "routing" => self.routing.push(routed("routing", value)?),
            "publish-key" => self.publish = Some(routed("publish-key", value)?),
            "queue-type" => {
                self.queue_kind = match value {
                    "quorum" => Kind::Quorum,
                    "classic" => Kind::Classic,
                    other => {
                        return Err(format!("`queue-type` is `{}`, expected `quorum` or `classic`", other.escape_debug()));
                    }
                }
            }
            "hold" => self.hold = within("hold", value, HOLDS, "10s to 7d")?,
            "heartbeat" => {
                self.heartbeat = within("heartbeat", value, HEARTBEATS, "1s to 60s")?;
                if self.heartbeat.subsec_nanos() != 0 {
                    return Err(format!("`heartbeat` is `{value}`, expected whole seconds"));
                }
            }
            other => {
                return Err(format!(
                    "parameter `{}` is not known (known: `exchange`, `exchange-type`, `routing`, `publish-key`, `queue-type`, `hold`, `heartbeat`, and for `amqps:` `ca`, `cert`, `key`)",
                    other.escape_debug()
                ));
            }
        }
        Ok(())
    }
}

fn within(what: &str, value: &str, (least, most): (Duration, Duration), range: &str) -> Result<Duration, String> {
    let duration = delay::duration(value)?;
    match duration >= least && duration <= most {
        true => Ok(duration),
        false => Err(format!("`{what}` is `{value}`, expected from {range}")),
    }
}

fn named(what: &str, value: &str) -> Result<String, String> {
    match value.len() > NAME_MAX {
        true => Err(format!("`{what}` is longer than {NAME_MAX} bytes")),
        false => Ok(value.to_owned()),
    }
}

fn routed(what: &str, value: &str) -> Result<String, String> {
    match value.len() > 255 {
        true => Err(format!("`{what}` is longer than 255 bytes")),
        false => Ok(value.to_owned()),
    }
}

fn login(url: &Url) -> Result<Option<(String, Secret)>, String> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(std::borrow::Cow::into_owned).map_err(|_| "the login is not UTF-8 after percent-decoding".to_owned())
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (_, None) => Err("the password is missing: `amqp://user:password@host/…`".to_owned()),
        (user, Some(password)) => Ok(Some((decoded(user)?, Secret(decoded(password)?)))),
    }
}

/// The virtual host, and the queue if one is named. An empty virtual host is the default one, `/`.
fn path(url: &Url) -> Result<(String, Option<String>), String> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(std::borrow::Cow::into_owned).map_err(|_| "the path is not UTF-8 after percent-decoding".to_owned())
    };
    let path = url.path().strip_prefix('/').unwrap_or(url.path());
    let mut parts = path.splitn(2, '/');
    let vhost = decoded(parts.next().unwrap_or_default())?;
    let queue = parts.next().map(decoded).transpose()?.filter(|queue| !queue.is_empty());
    if queue.as_deref().is_some_and(|queue| queue.starts_with("amq.")) {
        return Err("names that begin with `amq.` are the server's own".to_owned());
    }
    let vhost = if vhost.is_empty() { "/".to_owned() } else { vhost };
    Ok((vhost, queue.map(|queue| named("queue", &queue)).transpose()?))
}

#[cfg(test)]
mod tests;

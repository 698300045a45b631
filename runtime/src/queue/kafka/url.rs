//! `kafka://host:9092/topic`: a topic of Apache Kafka, and how it is read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::config::Secret;
use crate::source::delay;

/// How long a process may be silent before its partitions are given to others, unless `lease=` says otherwise.
const LEASE: Duration = Duration::from_secs(30);

/// Bounds on `lease=`: below, a busy machine could not answer in time; above, what a killed process held would be away for too long.
const LEASES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(1_800));

/// How long running events may go on when their partition goes to another process, unless `rebalance=` says otherwise: twice the default
/// deadline of a handler.
const REBALANCE: Duration = Duration::from_secs(60);

/// The longest: the others wait for that long.
const REBALANCE_MAX: Duration = Duration::from_secs(3_600);

/// Most partitions that are made for a topic.
const PARTITIONS_MAX: u32 = 10_000;

const PORT: u16 = 9092;

/// Longest name of a topic that a broker takes.
const TOPIC_MAX: usize = 249;

/// What the URLs look like, for errors.
const EXAMPLE: &str = "as in `kafka://127.0.0.1:9092/orders`";

/// All parameters, for errors.
const KNOWN: &str = "`partitions`, `replication`, `lease`, `rebalance`, `protocol`, `member`, `compression`, `group`, `sasl`, `ca`, `cert`, `key`";

/// A topic: `kafka://`, or `kafka+ssl://` with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicUrl {
    /// Brokers to begin with, `host:port` each, IPv6 in brackets.
    pub brokers: Vec<String>,
    /// Whether connections are secured.
    pub tls: bool,
    /// Who asks, by SASL.
    pub login: Option<Login>,
    /// `ca=`: certificates that sign the brokers' own, in place of the system's.
    pub authority: Option<PathBuf>,
    /// `cert=` and `key=`: our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The topic's name.
    pub topic: String,
    /// `partitions=`: a topic that is missing is made with so many.
    pub partitions: Option<u32>,
    /// `replication=`: with so many copies; none: as many as the broker makes by itself.
    pub replication: Option<u16>,
    /// How long a process may be silent before its partitions are given to others: the session's time-out.
    pub lease: Duration,
    /// How long running events may go on when their partition goes to another process: the longest poll interval.
    pub rebalance: Duration,
    /// `protocol=consumer`: the group protocol of KIP-848.
    pub new_protocol: bool,
    /// `member=static`: the process keeps its partitions over a restart of less than `lease`.
    pub static_member: bool,
    /// How batches are compressed.
    pub compression: Compression,
    /// `group=`: the consumer group whose position the one handler takes over.
    pub group: Option<String>,
}

/// How a connection says who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// User.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// How it is told.
    pub mechanism: Mechanism,
}

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password as it is.
    Plain,
    /// Proof of it.
    Scram256,
    /// Proof of it.
    Scram512,
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// zlib's.
    Gzip,
    /// Quick.
    Snappy,
    /// Quick.
    Lz4,
    /// Small.
    Zstd,
}

impl Mechanism {
    /// As Kafka calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram256 => "SCRAM-SHA-256",
            Self::Scram512 => "SCRAM-SHA-512",
        }
    }
}

impl Compression {
    /// As Kafka calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl TopicUrl {
    /// Reads a URL; relative paths are taken from `base`.
    ///
    /// # Errors
    /// Says what is wrong and what is known; never repeats a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("`//` is missing after the scheme, {EXAMPLE}"))?;
        if rest.contains('#') {
            return Err("nothing follows the parameters: write `#` in a value as `%23`".to_owned());
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let mut read = Self {
            brokers: hosts.split(',').map(broker).collect::<Result<_, _>>()?,
            tls: scheme == "kafka+ssl",
            login: login.map(parse_login).transpose()?,
            authority: None,
            identity: None,
            topic: topic(path)?,
            partitions: None,
            replication: None,
            lease: LEASE,
            rebalance: REBALANCE,
            new_protocol: false,
            static_member: false,
            compression: Compression::None,
            group: None,
        };
        let parameters = Parameters::read(query)?;
        for (name, value) in &parameters.others {
            read.set(name, value, base)?;
        }
        read.identity = match (parameters.cert, parameters.key) {
            (Some(cert), Some(key)) => Some((base.join(cert), base.join(key))),
            (None, None) => None,
            _ => return Err("`cert=` and `key=` go together".to_owned()),
        };
        read.check()?;
        Ok(read)
    }

    fn set(&mut self, name: &str, value: &str, base: &Path) -> Result<(), String> {
        let one_of = |known: &str| format!("`{name}` is `{}`, expected {known}", value.escape_debug());
        match name {
            "partitions" => self.partitions = Some(count(name, value, PARTITIONS_MAX)?),
            "replication" => self.replication = Some(u16::try_from(count(name, value, 100)?).unwrap_or(1)),
            "lease" => self.lease = between(name, value, LEASES.0, LEASES.1)?,
            "rebalance" => self.rebalance = between(name, value, LEASES.0, REBALANCE_MAX)?,
            "group" => self.group = Some(value.to_owned()),
            "ca" => self.authority = Some(base.join(value)),
            "protocol" => {
                self.new_protocol = match value {
                    "consumer" => true,
                    "classic" => false,
                    _ => return Err(one_of("`classic` or `consumer`")),
                }
            }
            "member" => {
                self.static_member = match value {
                    "static" => true,
                    "dynamic" => false,
                    _ => return Err(one_of("`dynamic` or `static`")),
                }
            }
            "compression" => {
                let all = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
                let found = all.into_iter().find(|known| known.name() == value);
                self.compression = found.ok_or_else(|| one_of("`none`, `gzip`, `snappy`, `lz4` or `zstd`"))?;
            }
            "sasl" => {
                let login = self.login.as_mut().ok_or("`sasl` is for a login: write `kafka://USER:PASSWORD@HOST/TOPIC`")?;
                login.mechanism = match value {
                    "plain" => Mechanism::Plain,
                    "scram-sha-256" => Mechanism::Scram256,
                    "scram-sha-512" => Mechanism::Scram512,
                    _ => return Err(one_of("`plain`, `scram-sha-256` or `scram-sha-512`")),
                }
            }
            other => return Err(format!("parameter `{}` is not known (known: {KNOWN})", other.escape_debug())),
        }
        Ok(())
    }

    /// What one parameter alone does not tell.
    fn check(&self) -> Result<(), String> {
        if !self.tls && (self.authority.is_some() || self.identity.is_some()) {
            return Err("`ca`, `cert` and `key` are for TLS: write `kafka+ssl://`".to_owned());
        }
        if self.replication.is_some() && self.partitions.is_none() {
            return Err("`replication` is for a topic that Weir makes: it goes with `partitions`".to_owned());
        }
        if self.rebalance < self.lease {
            return Err(format!("`rebalance` ({:?}) is shorter than `lease` ({:?})", self.rebalance, self.lease));
        }
        Ok(())
    }

    /// The name of the topic that holds a group's long waits.
    #[must_use]
    pub fn retry_topic(&self, group: &str) -> String {
        format!("{}.{group}.retry", self.topic)
    }
}

/// Without credentials.
impl fmt::Display for TopicUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let scheme = if self.tls { "kafka+ssl" } else { "kafka" };
        write!(f, "{scheme}://{}/{}", self.brokers.join(","), self.topic)
    }
}

/// What stands behind the question mark, each name once.
#[derive(Default)]
struct Parameters {
    cert: Option<String>,
    key: Option<String>,
    others: Vec<(String, String)>,
}

impl Parameters {
    fn read(query: &str) -> Result<Self, String> {
        let mut read = Self::default();
        let mut seen = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if seen.contains(&name) {
                return Err(format!("parameter `{}` is given twice", name.escape_debug()));
            }
            if value.is_empty() {
                return Err(format!("parameter `{}` is empty", name.escape_debug()));
            }
            match &*name {
                "cert" => read.cert = Some(value.into_owned()),
                "key" => read.key = Some(value.into_owned()),
                _ => read.others.push((name.to_string(), value.into_owned())),
            }
            seen.push(name);
        }
        Ok(read)
    }
}

/// `host` or `host:port`, with the usual port where none stands.
fn broker(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bare {
        Some((host, rest)) => (format!("[{host}]"), rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), Some("")),
        },
    };
    let odd = host.is_empty() || host == "[]" || host.contains([' ', '%', '/', '\\']);
    let port = match port {
        Some("") => Some(PORT),
        Some(port) => port.parse().ok().filter(|port| *port > 0),
        None => None,
    };
    match port {
        Some(port) if !odd => Ok(format!("{host}:{port}")),
        _ => Err(format!("`{}` is no broker, expected `HOST:PORT`, several with commas between, {EXAMPLE}", text.escape_debug())),
    }
}

fn parse_login(text: &str) -> Result<Login, String> {
    let (user, password) = text.split_once(':').ok_or("the login has no password: write `kafka://USER:PASSWORD@HOST/TOPIC`")?;
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "the login is not UTF-8 after percent-decoding")?;
        if decoded.contains('\0') { Err("the login holds a NUL character") } else { Ok(decoded.into_owned()) }
    };
    Ok(Login { user: decoded(user)?, password: Secret(decoded(password)?), mechanism: Mechanism::Plain })
}

/// The name of a topic, as brokers take it.
fn topic(path: &str) -> Result<String, String> {
    if path.is_empty() {
        return Err(format!("the topic is missing, {EXAMPLE}"));
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if path.len() > TOPIC_MAX || path.contains(odd) || matches!(path, "." | "..") {
        return Err(format!(
            "`{}` is no topic (expected at most {TOPIC_MAX} ASCII letters, digits, `.`, `_` and `-`)",
            path.escape_debug()
        ));
    }
    Ok(path.to_owned())
}

fn count(name: &str, value: &str, most: u32) -> Result<u32, String> {
    let count = value.parse().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| format!("`{name}` is `{}`, expected a number from 1 to {most}", value.escape_debug()))
}

fn between(name: &str, value: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = delay::duration(value)?;
    if duration < least || duration > most {
        return Err(format!("`{name}` is `{value}`, expected from {}s to {}s", least.as_secs(), most.as_secs()));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read() {
        let text = "kafka+ssl://ann:s3%2Fcret@a:9093,[::1],c/orders.new?sasl=scram-sha-512&partitions=12&replication=3&lease=10s\
                    &rebalance=2m&protocol=consumer&member=static&compression=zstd&group=old&ca=ca.pem&cert=c.pem&key=/k.pem";
        let url = TopicUrl::parse(text, Path::new("/etc")).unwrap();
        assert_eq!(url.brokers, ["a:9093", "[::1]:9092", "c:9092"]);
        let login = Login { user: "ann".into(), password: Secret("s3/cret".into()), mechanism: Mechanism::Scram512 };
        assert_eq!((url.login.clone(), url.tls, url.topic.as_str()), (Some(login), true, "orders.new"));
        assert_eq!((url.partitions, url.replication, url.group.as_deref()), (Some(12), Some(3), Some("old")));
        assert_eq!((url.lease, url.rebalance), (Duration::from_secs(10), Duration::from_secs(120)));
        assert!(url.new_protocol && url.static_member && url.compression == Compression::Zstd);
        assert_eq!(url.identity, Some(("/etc/c.pem".into(), "/k.pem".into())));
        assert_eq!(url.to_string(), "kafka+ssl://a:9093,[::1]:9092,c:9092/orders.new");
        let plain = TopicUrl::parse("kafka://h/t", Path::new("")).unwrap();
        assert_eq!((plain.brokers.as_slice(), plain.login, plain.lease), (&["h:9092".to_owned()][..], None, LEASE));
        assert_eq!(url.retry_topic("weir-mailer"), "orders.new.weir-mailer.retry");
    }

    #[test]
    fn mistakes_are_named() {
        for (rest, says) in [
            ("h", "the topic is missing"),
            ("h/", "the topic is missing"),
            ("/t", "`` is no broker, expected `HOST:PORT`"),
            ("h:x/t", "`h:x` is no broker"),
            ("h:0/t", "`h:0` is no broker"),
            ("a,,b/t", "`` is no broker"),
            ("[::1/t", "is no broker"),
            ("h/a/b", "`a/b` is no topic"),
            ("h/a%20b", "is no topic"),
            ("h/..", "`..` is no topic"),
            ("h/t?partitions=0", "`partitions` is `0`, expected a number from 1 to"),
            ("h/t?replication=1", "it goes with `partitions`"),
            ("h/t?lease=10ms", "`lease` is `10ms`, expected from 1s to 1800s"),
            ("h/t?lease=2m", "`rebalance` (60s) is shorter than `lease` (120s)"),
            ("h/t?protocol=new", "`protocol` is `new`, expected `classic` or `consumer`"),
            ("h/t?member=x", "expected `dynamic` or `static`"),
            ("h/t?compression=zip", "expected `none`, `gzip`"),
            ("h/t?sasl=plain", "`sasl` is for a login"),
            ("u:s3cret@h/t?sasl=gssapi", "`sasl` is `gssapi`, expected `plain`"),
            ("u@h/t", "the login has no password"),
            ("h/t?ca=x", "write `kafka+ssl://`"),
            ("h/t?cert=x", "`cert=` and `key=` go together"),
            ("h/t?group=", "`group` is empty"),
            ("h/t?group=a&group=b", "`group` is given twice"),
            ("h/t?acks=1", "parameter `acks` is not known (known: `partitions`"),
            ("h/t#x", "write `#` in a value as `%23`"),
        ] {
            let error = TopicUrl::parse(&format!("kafka://{rest}"), Path::new("")).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{rest}: {error}");
        }
    }
}

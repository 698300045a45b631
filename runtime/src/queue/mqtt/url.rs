//! `mqtt://host:1883/topic`: a topic filter of an MQTT 5 broker, and how it is read.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::Secret;
use crate::source::delay;

/// How long the broker keeps what waits for a process that is away, unless `session=` says otherwise (delivery.md §13).
const SESSION: Duration = Duration::from_secs(3_600);

/// Bounds on `session=`: below, a restart of the process would lose what it held; above, the protocol has no number for it but "for ever".
const SESSIONS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(366 * 86_400));

/// How long what waits in the store is ours without being renewed, unless `lease=` says otherwise (delivery.md §3).
const LEASE: Duration = Duration::from_secs(30);

/// Bounds on `lease=`: below, a busy machine could not renew in time; above, what a killed process held would be away for too long.
const LEASES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));

/// How often a silent connection is asked whether it is still there, unless `keepalive=` says otherwise.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Bounds on `keepalive=`: the client refuses less, and the protocol has no number for more.
const KEEP_ALIVES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3_600));

/// Largest message that is taken, unless `max-packet=` says otherwise; what is larger the broker drops without a word, so that it is far
/// above what events are.
const MAX_PACKET_BYTES: u32 = 16 << 20;

/// The protocol's own bound on a packet.
const PACKET_BYTES_MAX: u32 = 268_435_455;

/// The protocol's bound on a topic; what a shared subscription puts before it has to fit too.
const TOPIC_BYTES_MAX: usize = 65_000;

const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;

/// What the URLs look like, for errors.
const EXAMPLE: &str = "as in `mqtt://127.0.0.1:1883/orders/new`";

/// A topic filter of an MQTT broker: `mqtt://`, or `mqtts://` for a connection with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttUrl {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether the connection has TLS.
    pub tls: bool,
    /// Who asks: user and password.
    pub login: Option<(String, Secret)>,
    /// `ca=`: certificates that sign the server's own, in place of the system's.
    pub authority: Option<PathBuf>,
    /// `cert=` and `key=`: our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// What is read; wildcards are allowed, and then nothing can be published.
    pub filter: String,
    /// `session=`: how long the broker keeps what waits for a process that is away.
    pub session: Duration,
    /// `lease=`: how long what waits in the store is ours without being renewed.
    pub lease: Duration,
    /// `keepalive=`: how often a silent connection is asked whether it is still there.
    pub keep_alive: Duration,
    /// `group=`: the shared subscription that the one handler takes over.
    pub group: Option<String>,
    /// `retain=take`: a new session begins with the messages that the broker retains.
    pub take_retained: bool,
    /// `unread=drop`: a publish that nobody subscribes to is taken as done.
    pub drop_unread: bool,
    /// `max-packet=`: the largest message that is taken.
    pub max_packet_bytes: u32,
}

impl MqttUrl {
    /// Reads a URL; relative paths are taken from `base`. `#` is the wildcard: it needs no percent-encoding here.
    ///
    /// # Errors
    /// Says what is wrong and what is known; never repeats a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let url = Url::parse(&text.replace('#', "%23")).map_err(|error| error.to_string())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| format!("the host is missing, {EXAMPLE}"))?;
        let tls = url.scheme() == "mqtts";
        let mut read = Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(if tls { PORT_TLS } else { PORT }),
            tls,
            login: login(&url)?,
            authority: None,
            identity: None,
            filter: filter(&url)?,
            session: SESSION,
            lease: LEASE,
            keep_alive: KEEP_ALIVE,
            group: None,
            take_retained: false,
            drop_unread: false,
            max_packet_bytes: MAX_PACKET_BYTES,
        };
        read.read_parameters(&url, base)?;
        if !tls && (read.authority.is_some() || read.identity.is_some()) {
            return Err("`ca=`, `cert=` and `key=` are for `mqtts:`".to_owned());
        }
        if tls && read.host.contains(':') {
            return Err(format!("`mqtts:` needs the broker's name or IPv4 address, found `{}`", read.host));
        }
        Ok(read)
    }

    fn read_parameters(&mut self, url: &Url, base: &Path) -> Result<(), String> {
        let (mut cert, mut key) = (None, None);
        let mut seen: Vec<Cow<str>> = Vec::new();
        for (name, value) in url.query_pairs() {
            if seen.contains(&name) {
                return Err(format!("parameter `{}` is given twice", name.escape_debug()));
            }
            if value.is_empty() {
                return Err(format!("parameter `{}` is empty", name.escape_debug()));
            }
            match &*name {
                "ca" => self.authority = Some(base.join(&*value)),
                "cert" => cert = Some(base.join(&*value)),
                "key" => key = Some(base.join(&*value)),
                _ => self.set(&name, &value)?,
            }
            seen.push(name);
        }
        self.identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("`cert=` and `key=` go together".to_owned()),
        };
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "session" => self.session = between(name, value, SESSIONS, "from 1s to 366d")?,
            "lease" => self.lease = between(name, value, LEASES, "from 1s to 1h")?,
            "keepalive" => self.keep_alive = between(name, value, KEEP_ALIVES, "from 5s to 1h")?,
            "group" => self.group = Some(share_name(value)?),
            "retain" => self.take_retained = either(name, value, ("skip", "take"))?,
            "unread" => self.drop_unread = either(name, value, ("refuse", "drop"))?,
            "max-packet" => {
                let bytes = value.parse().ok().filter(|bytes| (1_024..=PACKET_BYTES_MAX).contains(bytes));
                let expected = || format!("`max-packet` is `{value}`, expected bytes from 1024 to {PACKET_BYTES_MAX}");
                self.max_packet_bytes = bytes.ok_or_else(expected)?;
            }
            other => {
                return Err(format!(
                    "parameter `{}` is not known (known: `session`, `lease`, `keepalive`, `group`, `retain`, `unread`, `max-packet`, and for \
                     `mqtts:` `ca`, `cert`, `key`)",
                    other.escape_debug()
                ));
            }
        }
        Ok(())
    }

    /// Whether the filter stands for several topics; then it is only read.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        self.filter.contains(['+', '#'])
    }

    /// The host as it stands before a port.
    pub(super) fn address(&self) -> Cow<'_, str> {
        if self.host.contains(':') { format!("[{}]", self.host).into() } else { self.host.as_str().into() }
    }
}

/// Without credentials.
impl fmt::Display for MqttUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}:{}/{}", self.address(), self.port, self.filter)
    }
}

/// A name that can stand in `$share/NAME/…`.
///
/// # Errors
/// Says what a name may not have.
pub(super) fn share_name(name: &str) -> Result<String, String> {
    match name.is_empty() || name.contains(['/', '+', '#', '\0']) {
        true => Err(format!("`group` is `{}`: the name of a shared subscription has none of `/ + #`", name.escape_debug())),
        false => Ok(name.to_owned()),
    }
}

fn between(name: &str, value: &str, (least, most): (Duration, Duration), expected: &str) -> Result<Duration, String> {
    let read = delay::duration(value)?;
    if read < least || read > most || read.subsec_nanos() != 0 {
        return Err(format!("`{name}` is `{value}`, expected whole seconds {expected}"));
    }
    Ok(read)
}

fn either(name: &str, value: &str, (no, yes): (&str, &str)) -> Result<bool, String> {
    match value {
        _ if value == no => Ok(false),
        _ if value == yes => Ok(true),
        _ => Err(format!("`{name}` is `{}`, expected `{no}` or `{yes}`", value.escape_debug())),
    }
}

fn login(url: &Url) -> Result<Option<(String, Secret)>, String> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(Cow::into_owned).map_err(|_| "the login is not UTF-8 after percent-decoding".to_owned())
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, password) => Ok(Some((decoded(user)?, Secret(decoded(password.unwrap_or_default())?)))),
    }
}

/// A topic filter: levels between slashes, `+` for one whole level and a last `#` for all that follow.
fn filter(url: &Url) -> Result<String, String> {
    let path = url.path().strip_prefix('/').unwrap_or_default();
    let path = percent_decode_str(path).decode_utf8().map_err(|_| "the topic is not UTF-8 after percent-decoding")?;
    if path.is_empty() {
        return Err(format!("the topic is missing, {EXAMPLE}"));
    }
    if path.starts_with('$') {
        return Err(format!("`{}` is the broker's own: topics of events don't begin with `$`", path.escape_debug()));
    }
    let levels: Vec<&str> = path.split('/').collect();
    let odd = |(at, level): (usize, &&str)| match *level {
        "+" => false,
        "#" => at + 1 < levels.len(),
        other => other.contains(['+', '#']) || other.chars().any(char::is_control),
    };
    if path.len() > TOPIC_BYTES_MAX || levels.iter().enumerate().any(odd) {
        return Err(format!(
            "`{}` is no topic filter (expected levels between slashes; `+` stands for one, `#` at the end for all that follow)",
            path.escape_debug()
        ));
    }
    Ok(path.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read() {
        let text =
            "mqtt://ann:s3cret@h:1999/sensors/+/temp/#?session=2h&lease=5s&keepalive=30s&group=old&retain=take&unread=drop";
        let url = MqttUrl::parse(text, Path::new("/etc")).unwrap();
        assert_eq!((url.filter.as_str(), url.port, url.has_wildcards()), ("sensors/+/temp/#", 1999, true));
        let seconds = [url.session, url.lease, url.keep_alive].map(|of| of.as_secs());
        assert_eq!(seconds, [7_200, 5, 30]);
        assert_eq!((url.group.as_deref(), url.take_retained, url.drop_unread), (Some("old"), true, true));
        assert_eq!(url.login, Some(("ann".to_owned(), Secret("s3cret".to_owned()))));
        assert_eq!(url.to_string(), "mqtt://h:1999/sensors/+/temp/#");
        let tls = MqttUrl::parse("mqtts://h/%2Fa%20b?ca=ca.pem&max-packet=1024", Path::new("/etc")).unwrap();
        assert_eq!((tls.filter.as_str(), tls.port, tls.max_packet_bytes), ("/a b", 8883, 1024));
        assert_eq!(tls.authority.as_deref(), Some(Path::new("/etc/ca.pem")));
        let six = MqttUrl::parse("mqtt://[::1]/a", Path::new("")).unwrap();
        assert_eq!((six.host.as_str(), six.to_string().as_str()), ("::1", "mqtt://[::1]:1883/a"));
    }

    #[test]
    fn mistakes_are_named() {
        for (rest, says) in [
            ("", "the topic is missing"),
            ("/", "the topic is missing"),
            ("/a#", "`a#` is no topic filter"),
            ("/a/#/b", "is no topic filter"),
            ("/a+/b", "is no topic filter"),
            ("/$share/g/a", "is the broker's own"),
            ("/a?session=", "`session` is empty"),
            ("/a?session=1h&session=2h", "`session` is given twice"),
            ("/a?session=10ms", "expected whole seconds from 1s to 366d"),
            ("/a?keepalive=1s", "expected whole seconds from 5s to 1h"),
            ("/a?group=a/b", "`group` is `a/b`: the name of a shared subscription has none of"),
            ("/a?retain=yes", "`retain` is `yes`, expected `skip` or `take`"),
            ("/a?unread=x", "`unread` is `x`, expected `refuse` or `drop`"),
            ("/a?max-packet=12", "`max-packet` is `12`, expected bytes from 1024"),
            ("/a?ca=x", "are for `mqtts:`"),
            ("/a?qos=2", "parameter `qos` is not known (known: `session`"),
        ] {
            let error = MqttUrl::parse(&format!("mqtt://u:s3cret@h{rest}"), Path::new("")).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{rest}: {error}");
        }
        let error = MqttUrl::parse("mqtts://[::1]/a", Path::new("")).unwrap_err();
        assert!(error.contains("needs the broker's name"), "{error}");
        let error = MqttUrl::parse("mqtts://h/a?cert=c", Path::new("")).unwrap_err();
        assert!(error.contains("`cert=` and `key=` go together"), "{error}");
    }
}

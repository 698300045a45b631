//! `nats://host:4222/subject`, and with `?stream=S` a JetStream stream: where it is and how it is read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::Secret;
use crate::source::delay;

/// How long a delivery is ours without being renewed, unless `lease=` says otherwise (delivery.md §3).
const LEASE: Duration = Duration::from_secs(30);

/// Bounds on `lease=`: below, a busy machine could not renew in time; above, what a killed process held would be away for too long.
const LEASES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));

/// When a request is answered at the latest, unless `reply-within=` says otherwise (delivery.md §13).
const REPLY_WITHIN: Duration = Duration::from_secs(5);

/// Bounds on `reply-within=`: below, no handler is done; above, nobody waits.
const REPLIES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(3_600));

const PORT: u16 = 4222;

/// What the URLs look like, for errors.
const EXAMPLE: &str = "as in `nats://127.0.0.1:4222/orders.new`, or of a stream `nats://127.0.0.1:4222/orders.new?stream=ORDERS`";

/// A subject of a NATS server: `nats://`, or `tls://` for a connection that must be secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsUrl {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether the connection must be secured.
    pub tls: bool,
    /// Who asks.
    pub login: Option<Login>,
    /// `ca=`: certificates that sign the server's own, in place of the system's.
    pub authority: Option<PathBuf>,
    /// `cert=` and `key=`: our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// What is read; wildcards are allowed, and then nothing can be published.
    pub subject: String,
    /// The stream that keeps it; none: nobody does, it is core NATS.
    pub stream: Option<String>,
    /// Of a stream: how long a delivery is ours without being renewed, the consumers' `ack_wait`.
    pub lease: Duration,
    /// Of core NATS: when a request is answered at the latest.
    pub reply_within: Duration,
    /// `group=`: the durable consumer whose position the one handler takes over, or its queue group.
    pub group: Option<String>,
}

/// How a connection says who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// User and password.
    Password(String, Secret),
    /// A token: a user without password.
    Token(Secret),
    /// `creds=`: a file of NATS credentials (a JWT and its seed).
    Credentials(PathBuf),
}

impl NatsUrl {
    /// Reads a URL; relative paths are taken from `base`.
    ///
    /// # Errors
    /// Says what is wrong and what is known; never repeats a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if url.fragment().is_some() {
            return Err("nothing follows the parameters: write `#` in a value as `%23`".to_owned());
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| format!("the host is missing, {EXAMPLE}"))?;
        let mut read = Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(PORT),
            tls: url.scheme() == "tls",
            login: login(&url)?,
            authority: None,
            identity: None,
            subject: subject(&url)?,
            stream: None,
            lease: LEASE,
            reply_within: REPLY_WITHIN,
            group: None,
        };
        let (mut cert, mut key) = (None, None);
        let mut seen = Vec::new();
        for (name, value) in url.query_pairs() {
            if seen.contains(&name) {
                return Err(format!("parameter `{}` is given twice", name.escape_debug()));
            }
            if value.is_empty() {
                return Err(format!("parameter `{}` is empty", name.escape_debug()));
            }
            match &*name {
                "ca" => read.authority = Some(base.join(&*value)),
                "cert" => cert = Some(base.join(&*value)),
                "key" => key = Some(base.join(&*value)),
                "creds" => read.login = Some(Login::Credentials(base.join(&*value))),
                _ => read.set(&name, &value)?,
            }
            seen.push(name);
        }
        read.identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("`cert=` and `key=` go together".to_owned()),
        };
        let odd = match read.stream {
            Some(_) => ("reply-within", "core NATS, without `stream=`"),
            None => ("lease", "streams, with `stream=`"),
        };
        match seen.iter().any(|name| *name == odd.0) {
            true => Err(format!("`{}` is for {}", odd.0, odd.1)),
            false => Ok(read),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "stream" => self.stream = Some(named("stream", value)?),
            "group" => self.group = Some(named("group", value)?),
            "lease" => self.lease = within("lease", value, LEASES)?,
            "reply-within" => self.reply_within = within("reply-within", value, REPLIES)?,
            other => {
                return Err(format!(
                    "parameter `{}` is not known (known: `stream`, `lease`, `reply-within`, `group`, `creds`, `ca`, `cert`, `key`)",
                    other.escape_debug()
                ));
            }
        }
        Ok(())
    }

    /// Whether the subject stands for several; then it is only read.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        self.subject.split('.').any(|token| token == "*" || token == ">")
    }
}

/// Without credentials.
impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}/{}", self.host, self.port, self.subject)?;
        self.stream.as_ref().map_or(Ok(()), |stream| write!(f, "?stream={stream}"))
    }
}

fn within(name: &str, value: &str, (least, most): (Duration, Duration)) -> Result<Duration, String> {
    let read = delay::duration(value)?;
    if read < least || read > most {
        return Err(format!("`{name}` is `{value}`, expected from {least:?} to {}h", most.as_secs() / 3_600));
    }
    Ok(read)
}

fn login(url: &Url) -> Result<Option<Login>, String> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(std::borrow::Cow::into_owned).map_err(|_| "the login is not UTF-8 after percent-decoding".to_owned())
    };
    Ok(match (url.username(), url.password()) {
        ("", None) => None,
        (user, Some(password)) => Some(Login::Password(decoded(user)?, Secret(decoded(password)?))),
        (token, None) => Some(Login::Token(Secret(decoded(token)?))),
    })
}

/// A subject: tokens between dots, none of them empty, `*` for one and a last `>` for all that follow.
fn subject(url: &Url) -> Result<String, String> {
    let path = percent_decode_str(url.path().trim_start_matches('/')).decode_utf8().map_err(|_| "the subject is not UTF-8")?;
    if path.is_empty() {
        return Err(format!("the subject is missing, {EXAMPLE}"));
    }
    let tokens: Vec<&str> = path.split('.').collect();
    let odd = |token: &&str| token.is_empty() || token.contains([' ', '\t', '\r', '\n', '/']);
    let wild = |token: &&str| token.contains(['*', '>']) && token.len() > 1;
    let early = tokens.iter().position(|token| *token == ">").is_some_and(|at| at + 1 < tokens.len());
    if early || tokens.iter().any(|token| odd(token) || wild(token)) {
        return Err(format!(
            "`{}` is no subject (expected tokens between dots; `*` stands for one, `>` at the end for all that follow)",
            path.escape_debug()
        ));
    }
    Ok(path.into_owned())
}

/// A name of a stream or consumer: the server refuses these characters.
fn named(what: &str, value: &str) -> Result<String, String> {
    match value.contains(['.', '*', '>', '/', '\\', ' ', '\t', '\r', '\n']) {
        true => Err(format!("`{what}` is `{}`: a name has no blank and none of `. * > / \\`", value.escape_debug())),
        false => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read() {
        let text = "nats://ann:s3cret@h:4333/orders.*?stream=ORDERS&lease=5s&group=old&ca=ca.pem";
        let url = NatsUrl::parse(text, Path::new("/etc")).unwrap();
        assert_eq!(
            (url.subject.as_str(), url.stream.as_deref(), url.lease),
            ("orders.*", Some("ORDERS"), Duration::from_secs(5))
        );
        assert_eq!((url.group.as_deref(), url.port, url.has_wildcards()), (Some("old"), 4333, true));
        assert_eq!(url.authority.as_deref(), Some(Path::new("/etc/ca.pem")));
        assert_eq!(url.to_string(), "nats://h:4333/orders.*?stream=ORDERS");
        let token = NatsUrl::parse("tls://t0ken@h/a?stream=S", Path::new("")).unwrap();
        assert_eq!((token.login, token.tls, token.port), (Some(Login::Token(Secret("t0ken".to_owned()))), true, 4222));
    }

    #[test]
    fn subjects_are_read() {
        let url = NatsUrl::parse("nats://ann:s3cret@[::1]/jobs.>?reply-within=500ms", Path::new("")).unwrap();
        assert_eq!((url.subject.as_str(), url.stream.as_deref()), ("jobs.>", None));
        assert_eq!((url.reply_within, url.to_string()), (Duration::from_millis(500), "nats://[::1]:4222/jobs.>".to_owned()));
    }

    #[test]
    fn mistakes_are_named() {
        for (rest, says) in [
            ("", "the subject is missing"),
            ("/a?stream=", "`stream` is empty"),
            ("/a?stream=S&stream=S", "`stream` is given twice"),
            ("/a..b?stream=S", "`a..b` is no subject"),
            ("/a.>.b?stream=S", "is no subject"),
            ("/a*?stream=S", "is no subject"),
            ("/a?stream=S.T", "`stream` is `S.T`: a name has no blank"),
            ("/a?stream=S&lease=10ms", "`lease` is `10ms`, expected from 1s to 1h"),
            ("/a?reply-within=1ms", "`reply-within` is `1ms`, expected from 10ms to 1h"),
            ("/a?lease=5s", "`lease` is for streams"),
            ("/a?stream=S&reply-within=5s", "`reply-within` is for core NATS"),
            ("/a?stream=S&cert=c", "`cert=` and `key=` go together"),
            ("/a?stream=S&timeout=1", "parameter `timeout` is not known (known: `stream`"),
        ] {
            let error = NatsUrl::parse(&format!("nats://u:s3cret@h{rest}"), Path::new("")).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{rest}: {error}");
        }
    }
}

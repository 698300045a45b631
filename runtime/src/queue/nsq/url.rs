//! `nsq://host:4150[,host:4150…]/topic` and `nsq+lookup://host:4161[,…]/topic`: a topic of NSQ, and how it is read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

pub use super::client::connection::Address;
use crate::config::Secret;
use crate::source::delay;

/// How long a message is ours without being renewed, unless `lease=` says otherwise (delivery.md §3).
const LEASE: Duration = Duration::from_secs(30);

/// Bounds on `lease=`: below, a cut connection would not be found in time (servers send heartbeats a second apart at the least); above,
/// what a killed process held would be away for too long.
const LEASES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3_600));

/// How often `nsqlookupd` is asked, unless `poll=` says otherwise.
const POLL: Duration = Duration::from_secs(30);

/// Bounds on `poll=`.
const POLLS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));

/// Servers in one URL.
const SERVERS_MAX: usize = 64;

const PORT: u16 = 4150;
const LOOKUP_PORT: u16 = 4161;
const HTTP_PORT: u16 = 4151;

/// Longest name of a topic or channel that servers take.
const NAME_MAX: usize = 64;

/// What the URLs look like, for errors.
const EXAMPLE: &str = "as in `nsq://127.0.0.1:4150/orders` or `nsq+lookup://127.0.0.1:4161/orders`";

/// A topic, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NsqUrl {
    /// Whether `servers` are `nsqlookupd` (their HTTP address), which say where the topic is; else they are `nsqd`.
    pub lookup: bool,
    /// At least one.
    pub servers: Vec<Address>,
    /// The topic.
    pub topic: String,
    /// How long a message is ours without being renewed: `msg_timeout` of our connections.
    pub lease: Duration,
    /// `group=`: the channel whose position the one handler takes over.
    pub group: Option<String>,
    /// `http=`: where the `nsqd` answer HTTP, in their order; for depths, and to remove channels. `nsqlookupd` tells it by itself.
    pub http: Vec<Address>,
    /// `poll=`: how often `nsqlookupd` is asked.
    pub poll: Duration,
    /// What is said to servers that ask for a secret.
    pub secret: Option<Secret>,
    /// Whether connections must be secured.
    pub tls: bool,
    /// `ca=`: certificates that sign the servers' own, in place of what this machine trusts.
    pub authority: Option<PathBuf>,
    /// `cert=` and `key=`: our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl NsqUrl {
    /// Reads a URL; relative paths are taken from `base`.
    ///
    /// # Errors
    /// Says what is wrong and what is known; never repeats a secret.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("`//` is missing after the scheme, {EXAMPLE}"))?;
        let lookup = scheme == "nsq+lookup";
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        // Several hosts are no URL to anybody else: the rest is read without them.
        let url = Url::parse(&format!("nsq://host{path}")).map_err(|error| error.to_string())?;
        if url.fragment().is_some() {
            return Err("nothing follows the parameters: write `#` in a value as `%23`".to_owned());
        }
        let mut read = Self {
            lookup,
            servers: addresses(hosts, if lookup { LOOKUP_PORT } else { PORT })?,
            topic: topic(&url)?,
            lease: LEASE,
            group: None,
            http: Vec::new(),
            poll: POLL,
            secret: secret(login)?,
            tls: false,
            authority: None,
            identity: None,
        };
        read.parameters(&url, base)?;
        Ok(read)
    }

    fn parameters(&mut self, url: &Url, base: &Path) -> Result<(), String> {
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
        if !self.tls && (self.authority.is_some() || self.identity.is_some()) {
            return Err("`ca=`, `cert=` and `key=` are for secured connections: add `tls=yes`".to_owned());
        }
        if !self.http.is_empty() && self.http.len() != self.servers.len() {
            let (found, expected) = (self.http.len(), self.servers.len());
            return Err(format!("`http=` names {found} servers, expected {expected}: one for each `nsqd`, in their order"));
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let bounded = |(least, most): (Duration, Duration), range: &str| {
            let found = delay::duration(value)?;
            let within = found >= least && found <= most;
            if within { Ok(found) } else { Err(format!("`{name}` is `{value}`, expected from {range}")) }
        };
        match name {
            "group" => self.group = Some(named("group", value)?),
            "lease" => self.lease = bounded(LEASES, "2s to 1h")?,
            "poll" if self.lookup => self.poll = bounded(POLLS, "1s to 1h")?,
            "http" if !self.lookup => self.http = addresses(value, HTTP_PORT)?,
            "tls" if value == "yes" => self.tls = true,
            "tls" => return Err(format!("`tls` is `{}`, expected `yes`", value.escape_debug())),
            other => {
                let own = if self.lookup { "poll" } else { "http" };
                return Err(format!(
                    "parameter `{}` is not known (known: `lease`, `group`, `{own}`, `tls`, `ca`, `cert`, `key`)",
                    other.escape_debug()
                ));
            }
        }
        Ok(())
    }
}

/// Without the secret and the parameters.
impl fmt::Display for NsqUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let scheme = if self.lookup { "nsq+lookup" } else { "nsq" };
        let servers: Vec<String> = self.servers.iter().map(Address::to_string).collect();
        write!(f, "{scheme}://{}/{}", servers.join(","), self.topic)
    }
}

/// `host:port,host:port`.
fn addresses(text: &str, port: u16) -> Result<Vec<Address>, String> {
    let mut found: Vec<Address> = Vec::new();
    for one in text.split(',') {
        let url = Url::parse(&format!("nsq://{one}/")).ok().filter(|url| url.username().is_empty() && url.password().is_none());
        let host = url.as_ref().and_then(Url::host_str).filter(|host| !host.is_empty());
        let (Some(url), Some(host)) = (&url, host) else {
            return Err(format!("`{}` is no server, expected `host:port`, {EXAMPLE}", one.escape_debug()));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let address = Address { host, port: url.port().unwrap_or(port) };
        if address.port == 0 {
            return Err("port 0 is no port to connect to".to_owned());
        }
        if found.contains(&address) {
            return Err(format!("the server `{address}` is given twice"));
        }
        found.push(address);
    }
    if found.len() > SERVERS_MAX {
        return Err(format!("{} servers are given, expected at most {SERVERS_MAX} [use `nsq+lookup://`]", found.len()));
    }
    Ok(found)
}

fn topic(url: &Url) -> Result<String, String> {
    let path = percent_decode_str(url.path().trim_start_matches('/')).decode_utf8().map_err(|_| "the topic is not UTF-8")?;
    if path.is_empty() { Err(format!("the topic is missing, {EXAMPLE}")) } else { named("topic", &path) }
}

/// The secret stands where a password does, so that it is masked wherever the URL is shown.
fn secret(login: &str) -> Result<Option<Secret>, String> {
    match login.split_once(':') {
        None if login.is_empty() => Ok(None),
        Some(("", secret)) if !secret.is_empty() => {
            let decoded = percent_decode_str(secret).decode_utf8();
            let decoded = decoded.map_err(|_| "the secret is not UTF-8 after percent-decoding")?;
            Ok(Some(Secret(decoded.into_owned())))
        }
        _ => Err("NSQ has no user names: write the secret as in `nsq://:${NSQ_SECRET}@host:4150/topic`".to_owned()),
    }
}

/// A name of a topic or channel as servers take it. `#ephemeral` ones are refused: what waits in them is dropped.
pub(super) fn named(what: &str, value: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if value.is_empty() || value.len() > NAME_MAX || !value.bytes().all(plain) {
        return Err(format!(
            "{what} `{}` is no name to NSQ (expected 1 to {NAME_MAX} letters, digits, `.`, `_` and `-`)",
            value.escape_debug()
        ));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NsqUrl, String> {
        NsqUrl::parse(text, Path::new("/etc"))
    }

    #[test]
    fn topics_are_read() {
        let url = parse("nsq://:s3cret@a:4000,b,[::1]:5/orders.new?lease=5s&group=old&http=a:1,b,c&tls=yes&ca=ca.pem").unwrap();
        let servers: Vec<String> = url.servers.iter().map(Address::to_string).collect();
        assert_eq!(servers, ["a:4000", "b:4150", "[::1]:5"]);
        assert_eq!((url.topic.as_str(), url.lease, url.group.as_deref()), ("orders.new", Duration::from_secs(5), Some("old")));
        assert_eq!((url.secret.as_ref(), url.tls), (Some(&Secret("s3cret".to_owned())), true));
        assert_eq!(url.authority.as_deref(), Some(Path::new("/etc/ca.pem")));
        assert_eq!(url.http.get(1).map(Address::to_string).as_deref(), Some("b:4151"));
        assert_eq!(url.to_string(), "nsq://a:4000,b:4150,[::1]:5/orders.new");
        let lookup = parse("nsq+lookup://l/t?poll=5s").unwrap();
        assert_eq!((lookup.to_string().as_str(), lookup.poll), ("nsq+lookup://l:4161/t", Duration::from_secs(5)));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("nsq:topic", "`//` is missing"),
            ("nsq://h", "the topic is missing"),
            ("nsq:///t", "`` is no server"),
            ("nsq://h:x/t", "`h:x` is no server"),
            ("nsq://h:0/t", "port 0"),
            ("nsq://h,h:4150/t", "`h:4150` is given twice"),
            ("nsq://h/a/b", "topic `a/b` is no name to NSQ"),
            ("nsq://h/t%23ephemeral", "is no name to NSQ"),
            ("nsq://h/t#x", "nothing follows the parameters"),
            ("nsq://:s3cret@h/t?lease=1s", "`lease` is `1s`, expected from 2s to 1h"),
            ("nsq://:s3cret@h/t?lease=5s&lease=5s", "`lease` is given twice"),
            ("nsq://:s3cret@h/t?group=", "`group` is empty"),
            ("nsq://:s3cret@h/t?tls=no", "`tls` is `no`, expected `yes`"),
            ("nsq://:s3cret@h/t?ca=x", "add `tls=yes`"),
            ("nsq://:s3cret@h/t?tls=yes&cert=x", "go together"),
            ("nsq://:s3cret@h,i/t?http=h", "`http=` names 1 servers, expected 2"),
            ("nsq://:s3cret@h/t?poll=5s", "parameter `poll` is not known (known: `lease`, `group`, `http`"),
            ("nsq+lookup://h/t?http=h", "parameter `http` is not known (known: `lease`, `group`, `poll`"),
            ("nsq://s3cret@h/t", "NSQ has no user names"),
            ("nsq://user:s3cret@h/t", "NSQ has no user names"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}

//! `redis://host:6379/0?stream=k`: a stream of a Redis server, and how it is read.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::redis::{Parameters, RedisUrl};
use crate::source::delay;

/// How long a delivery is ours without being renewed, unless `lease=` says otherwise (delivery.md §3).
pub const LEASE: Duration = Duration::from_secs(30);

/// Bounds on `lease=`: below, a busy machine could not renew in time; above, what a killed process held would be away for too long.
const LEASES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));

/// A stream: `redis://`, `rediss://`, `redis+unix://` with `stream=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamUrl {
    /// Where the server is.
    pub server: RedisUrl,
    /// The stream's key.
    pub stream: String,
    /// How long a delivery is ours without being renewed.
    pub lease: Duration,
    /// `maxlen=`: about how many entries are kept, read or not; none: all that some group still needs.
    pub maxlen: Option<u64>,
    /// `group=`: the consumer group whose position the one handler takes over.
    pub group: Option<String>,
}

impl StreamUrl {
    /// Reads a URL; relative paths of certificates are taken from `base`.
    ///
    /// # Errors
    /// Says what is wrong and what is known; never repeats a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let (server, parameters) = own(text, base)?;
        let mut url = Self { server, stream: String::new(), lease: LEASE, maxlen: None, group: None };
        for (name, value) in &parameters {
            url.set(name, value)?;
        }
        if url.stream.is_empty() {
            return Err("the stream is missing, as in `redis://127.0.0.1:6379/0?stream=orders`".to_owned());
        }
        Ok(url)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "stream" => value.clone_into(&mut self.stream),
            "group" => self.group = Some(value.to_owned()),
            "lease" => self.lease = lease(value)?,
            "maxlen" => {
                let maxlen = value.parse().ok().filter(|maxlen| *maxlen > 0);
                self.maxlen = Some(maxlen.ok_or_else(|| format!("`maxlen` is `{value}`, expected a number of entries from 1"))?);
            }
            other => {
                return Err(format!(
                    "parameter `{}` is not known (known: `stream`, `lease`, `maxlen`, `group`, and for `rediss:` `ca`, `cert`, `key`)",
                    other.escape_debug()
                ));
            }
        }
        Ok(())
    }
}

/// The server of a queue's URL, and the parameters that are the queue's own: each once, none empty. Relative paths are taken from `base`.
pub(super) fn own(text: &str, base: &Path) -> Result<(RedisUrl, Parameters), String> {
    let (mut server, parameters) = RedisUrl::parse(text)?;
    server.authority = server.authority.map(|path| base.join(path));
    server.identity = server.identity.map(|(cert, key)| (base.join(cert), base.join(key)));
    for (at, (name, value)) in parameters.iter().enumerate() {
        if parameters.iter().take(at).any(|(other, _)| other == name) {
            return Err(format!("parameter `{}` is given twice", name.escape_debug()));
        }
        if value.is_empty() {
            return Err(format!("parameter `{}` is empty", name.escape_debug()));
        }
    }
    Ok((server, parameters))
}

/// `lease=`.
pub(super) fn lease(value: &str) -> Result<Duration, String> {
    let lease = delay::duration(value)?;
    match lease >= LEASES.0 && lease <= LEASES.1 {
        true => Ok(lease),
        false => Err(format!("`lease` is `{value}`, expected from 1s to 1h")),
    }
}

/// Without credentials.
impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let server = self.server.to_string();
        let separator = if server.contains('?') { '&' } else { '?' };
        write!(f, "{server}{separator}stream={}", self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read() {
        let text = "redis://ann:s3cret@h:7000/2?stream=orders%20new&lease=5s&maxlen=1000&group=old";
        let url = StreamUrl::parse(text, Path::new("/etc")).unwrap();
        assert_eq!((url.stream.as_str(), url.lease, url.maxlen), ("orders new", Duration::from_secs(5), Some(1_000)));
        assert_eq!(url.group.as_deref(), Some("old"));
        assert_eq!(url.to_string(), "redis://h:7000/2?stream=orders new");
        let tls = StreamUrl::parse("rediss://h?stream=k&ca=ca.pem", Path::new("/etc/weir")).unwrap();
        assert_eq!(tls.server.authority.as_deref(), Some(Path::new("/etc/weir/ca.pem")));
        assert_eq!(tls.lease, LEASE);
    }

    #[test]
    fn mistakes_are_named() {
        for (parameters, says) in [
            ("", "the stream is missing"),
            ("?stream=", "`stream` is empty"),
            ("?stream=a&stream=b", "`stream` is given twice"),
            ("?stream=k&lease=10ms", "expected from 1s to 1h"),
            ("?stream=k&lease=x", "`x` is no duration"),
            ("?stream=k&maxlen=0", "expected a number of entries from 1"),
            ("?stream=k&timeout=1", "parameter `timeout` is not known (known: `stream`, `lease`, `maxlen`, `group`"),
        ] {
            let error = StreamUrl::parse(&format!("redis://:s3cret@h{parameters}"), Path::new("")).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{parameters}: {error}");
        }
    }
}

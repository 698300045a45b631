//! `redis://host:6379/0?list=k` and `?zset=k`: which list or sorted set, and how it is read.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::queue::redis::url::{LEASE, lease, own};
use crate::redis::RedisUrl;

/// A list or a sorted set: `redis://`, `rediss://`, `redis+unix://` with `list=` or `zset=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenUrl {
    /// Where the server is.
    pub server: RedisUrl,
    /// The list's or sorted set's key.
    pub key: String,
    /// Which of them it is.
    pub kind: Kind,
    /// How long a message is ours without being renewed.
    pub lease: Duration,
}

/// What messages are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `list=`: a list.
    List {
        /// `take=`: the end that messages are taken from; they are added at the other.
        take: End,
    },
    /// `zset=`: a sorted set by due time.
    SortedSet {
        /// `unit=`: what its scores count, since 1970.
        unit: Unit,
    },
}

/// An end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// As `RPOP` takes and `LPUSH` fills.
    #[default]
    Right,
    /// As `LPOP` takes and `RPUSH` fills.
    Left,
}

/// What a score counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Seconds, with or without a fraction.
    #[default]
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    /// Milliseconds of one.
    pub(super) fn millis(self) -> u32 {
        match self {
            Self::Seconds => 1_000,
            Self::Milliseconds => 1,
        }
    }
}

impl Kind {
    /// The server's word for its type.
    pub(super) fn redis_type(self) -> &'static str {
        match self {
            Self::List { .. } => "list",
            Self::SortedSet { .. } => "zset",
        }
    }

    /// How scripts are told.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::List { take: End::Right } => "right",
            Self::List { take: End::Left } => "left",
            Self::SortedSet { .. } => "zset",
        }
    }
}

impl TakenUrl {
    /// Reads a URL; relative paths of certificates are taken from `base`.
    ///
    /// # Errors
    /// Says what is wrong and what is known; never repeats a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let (server, parameters) = own(text, base)?;
        let (mut list, mut zset, mut take, mut unit, mut url_lease) = (None, None, None, None, LEASE);
        for (name, value) in parameters {
            match name.as_str() {
                "list" => list = Some(value),
                "zset" => zset = Some(value),
                "take" => {
                    take = Some(match value.as_str() {
                        "right" => End::Right,
                        "left" => End::Left,
                        _ => return Err(format!("`take` is `{}`, expected `right` or `left`", value.escape_debug())),
                    });
                }
                "unit" => {
                    unit = Some(match value.as_str() {
                        "s" => Unit::Seconds,
                        "ms" => Unit::Milliseconds,
                        _ => return Err(format!("`unit` is `{}`, expected `s` or `ms`", value.escape_debug())),
                    });
                }
                "lease" => url_lease = lease(&value)?,
                other => {
                    return Err(format!(
                        "parameter `{}` is not known (known: `list` with `take`, `zset` with `unit`, `lease`, and for `rediss:` `ca`, `cert`, `key`)",
                        other.escape_debug()
                    ));
                }
            }
        }
        let (key, kind) = match (list, zset, take, unit) {
            (Some(key), None, take, None) => (key, Kind::List { take: take.unwrap_or_default() }),
            (None, Some(key), None, unit) => (key, Kind::SortedSet { unit: unit.unwrap_or_default() }),
            (Some(_), Some(_), ..) => return Err("`list` and `zset` are two queues: one URL has one of them".to_owned()),
            (Some(_), None, _, Some(_)) => return Err("`unit` is for `zset=` only: a list has no scores".to_owned()),
            (None, Some(_), Some(_), _) => return Err("`take` is for `list=` only: a sorted set is taken by score".to_owned()),
            (None, None, ..) => {
                return Err("the list is missing, as in `redis://127.0.0.1:6379/0?list=orders`".to_owned());
            }
        };
        Ok(Self { server, key, kind, lease: url_lease })
    }
}

/// Without credentials.
impl fmt::Display for TakenUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let server = self.server.to_string();
        let separator = if server.contains('?') { '&' } else { '?' };
        let name = self.kind.redis_type();
        write!(f, "{server}{separator}{name}={}", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &str) -> Result<TakenUrl, String> {
        TakenUrl::parse(&format!("redis://ann:s3cret@h:7000/2{parameters}"), Path::new("/etc"))
    }

    #[test]
    fn lists_and_sorted_sets_are_read() {
        for (parameters, kind, lease) in [
            ("?list=a", Kind::List { take: End::Right }, LEASE),
            ("?list=a&take=left&lease=5s", Kind::List { take: End::Left }, Duration::from_secs(5)),
            ("?zset=a", Kind::SortedSet { unit: Unit::Seconds }, LEASE),
            ("?unit=ms&zset=a", Kind::SortedSet { unit: Unit::Milliseconds }, LEASE),
        ] {
            let url = read(parameters).unwrap();
            assert_eq!((url.key.as_str(), url.kind, url.lease), ("a", kind, lease), "{parameters}");
        }
        assert_eq!(read("?list=a&take=left").unwrap().to_string(), "redis://h:7000/2?list=a");
    }

    #[test]
    fn mistakes_are_named() {
        for (parameters, says) in [
            ("?list=", "`list` is empty"),
            ("?list=a&list=b", "`list` is given twice"),
            ("?list=a&zset=b", "one URL has one of them"),
            ("?list=a&unit=ms", "`unit` is for `zset=` only"),
            ("?zset=a&take=left", "`take` is for `list=` only"),
            ("?list=a&take=top", "`take` is `top`, expected `right` or `left`"),
            ("?zset=a&unit=h", "`unit` is `h`, expected `s` or `ms`"),
            ("?list=a&lease=10ms", "expected from 1s to 1h"),
            ("?list=a&group=g", "parameter `group` is not known (known: `list` with `take`"),
        ] {
            let error = read(parameters).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{parameters}: {error}");
        }
    }
}

//! `redis://host:6379/0?channel=k` and `?pattern=k.*`: which channel.

use std::fmt;
use std::path::Path;

use crate::queue::redis::url::own;
use crate::redis::RedisUrl;

/// A channel or a pattern of channels: `redis://`, `rediss://`, `redis+unix://` with `channel=` or `pattern=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelUrl {
    /// Where the server is.
    pub server: RedisUrl,
    /// What is listened to.
    pub channel: Channel,
}

/// What is listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// `channel=`: one, that events can be published to as well.
    One(String),
    /// `pattern=`: all whose names match, as `PSUBSCRIBE` has it.
    Pattern(String),
}

impl ChannelUrl {
    /// Reads a URL; relative paths of certificates are taken from `base`.
    ///
    /// # Errors
    /// Says what is wrong and what is known; never repeats a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let (server, parameters) = own(text, base)?;
        let mut channel = None;
        for (name, value) in parameters {
            let found = match name.as_str() {
                "channel" => Channel::One(value),
                "pattern" => Channel::Pattern(value),
                other => {
                    return Err(format!(
                        "parameter `{}` is not known (known: `channel`, `pattern`, and for `rediss:` `ca`, `cert`, `key`)",
                        other.escape_debug()
                    ));
                }
            };
            if channel.replace(found).is_some() {
                return Err("`channel` and `pattern` are two queues: one URL has one of them".to_owned());
            }
        }
        let channel = channel.ok_or("the channel is missing, as in `redis://127.0.0.1:6379/0?channel=orders`")?;
        Ok(Self { server, channel })
    }

    /// The channel's name, or the pattern.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.channel {
            Channel::One(name) | Channel::Pattern(name) => name,
        }
    }
}

/// Without credentials.
impl fmt::Display for ChannelUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let server = self.server.to_string();
        let separator = if server.contains('?') { '&' } else { '?' };
        match &self.channel {
            Channel::One(name) => write!(f, "{server}{separator}channel={name}"),
            Channel::Pattern(pattern) => write!(f, "{server}{separator}pattern={pattern}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &str) -> Result<ChannelUrl, String> {
        ChannelUrl::parse(&format!("redis://ann:s3cret@h:7000/2{parameters}"), Path::new("/etc"))
    }

    #[test]
    fn channels_and_patterns_are_read() {
        let url = read("?channel=orders").unwrap();
        assert_eq!(
            (&url.channel, url.to_string().as_str()),
            (&Channel::One("orders".to_owned()), "redis://h:7000/2?channel=orders")
        );
        assert_eq!(read("?pattern=orders.*").unwrap().channel, Channel::Pattern("orders.*".to_owned()));
    }

    #[test]
    fn mistakes_are_named() {
        for (parameters, says) in [
            ("?channel=", "`channel` is empty"),
            ("?channel=a&pattern=b", "one URL has one of them"),
            ("?channel=a&lease=5s", "parameter `lease` is not known (known: `channel`, `pattern`"),
            ("?pattern=a&pattern=b", "`pattern` is given twice"),
        ] {
            let error = read(parameters).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{parameters}: {error}");
        }
    }
}

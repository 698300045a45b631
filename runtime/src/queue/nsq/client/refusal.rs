//! A server's error: its code, and what it comes to. Pure.

use super::frame::MessageId;

/// What a server answers when it does not do something: `E_BAD_TOPIC SUB topic name "a b" is not valid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::queue::nsq) struct Refusal {
    /// `E_BAD_TOPIC`.
    pub(in crate::queue::nsq) code: String,
    /// What follows.
    pub(in crate::queue::nsq) text: String,
}

/// What a refusal comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue::nsq) enum Meaning {
    /// Names, credentials or settings have to change.
    Invalid,
    /// A message, or a batch, that is larger than the server takes: its bytes, and the server's bound.
    TooLarge {
        /// The bytes.
        size: u64,
        /// The bound.
        bound: u64,
    },
    /// FIN, REQ or TOUCH of a message that is no longer this connection's.
    Gone,
    /// Anything else: it may work later.
    Trouble,
}

impl Refusal {
    /// From a frame's text.
    pub(in crate::queue::nsq) fn read(text: &str) -> Self {
        let (code, text) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        Self { code: code.to_owned(), text: text.to_owned() }
    }

    pub(in crate::queue::nsq) fn meaning(&self) -> Meaning {
        match self.code.as_str() {
            "E_FIN_FAILED" | "E_REQ_FAILED" | "E_TOUCH_FAILED" => Meaning::Gone,
            "E_BAD_MESSAGE" | "E_BAD_BODY" => match self.sizes() {
                Some((size, bound)) => Meaning::TooLarge { size, bound },
                None => Meaning::Invalid,
            },
            "E_INVALID" | "E_BAD_TOPIC" | "E_BAD_CHANNEL" | "E_AUTH_FIRST" | "E_AUTH_DISABLED" | "E_UNAUTHORIZED" => {
                Meaning::Invalid
            }
            // `AUTH failed` is also what is said while the server that knows the secrets is away.
            _ => Meaning::Trouble,
        }
    }

    /// Which message it is about: the first word of that length.
    pub(in crate::queue::nsq) fn message(&self) -> Option<MessageId> {
        self.text.split(' ').find_map(|word| word.as_bytes().try_into().ok()).map(MessageId)
    }

    /// `MPUB message too big 1048633 > 1048576`.
    fn sizes(&self) -> Option<(u64, u64)> {
        let (before, bound) = self.text.split_once(" > ")?;
        let size = before.rsplit(' ').next()?;
        Some((size.parse().ok()?, bound.split(' ').next()?.parse().ok()?))
    }

    /// What to do about it, for people; empty where nothing is known.
    fn advice(&self) -> &'static str {
        let says = |word| self.text.contains(word);
        match self.code.as_str() {
            "E_INVALID" if says("TLS required") => " [add `tls=yes` to the URL]",
            "E_AUTH_FIRST" | "E_AUTH_FAILED" => {
                " [is the secret in the URL right, as in `nsq://:${NSQ_SECRET}@host:4150/topic`?]"
            }
            "E_UNAUTHORIZED" => " [the secret needs `publish` and `subscribe` for this topic and its channels]",
            "E_BAD_BODY" if says("msg timeout") => " [`lease=` is above the server's `-max-msg-timeout`]",
            "E_BAD_BODY" if says("heartbeat interval") => {
                " [the server's `-max-heartbeat-interval` is below what `lease=` needs]"
            }
            "E_SUB_FAILED" if says("limit") => " [the server's `-max-channel-consumers`]",
            _ => "",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "the server answers `{} {}`{}", self.code, self.text.escape_debug(), self.advice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_understood() {
        for (text, meaning) in [
            ("E_BAD_MESSAGE MPUB message too big 1048633 > 1048576", Meaning::TooLarge { size: 1_048_633, bound: 1_048_576 }),
            ("E_BAD_BODY MPUB body too big 6000000 > 5242880", Meaning::TooLarge { size: 6_000_000, bound: 5_242_880 }),
            ("E_BAD_BODY IDENTIFY msg timeout (3600000) is invalid", Meaning::Invalid),
            ("E_BAD_TOPIC SUB topic name \"a b\" is not valid", Meaning::Invalid),
            ("E_UNAUTHORIZED AUTH failed for SUB on \"a\" \"b\"", Meaning::Invalid),
            ("E_AUTH_FAILED AUTH failed", Meaning::Trouble),
            ("E_PUB_FAILED PUB failed exiting", Meaning::Trouble),
            ("E_FIN_FAILED FIN 0d5a7c3f9b1e2468 failed ID not in flight", Meaning::Gone),
            ("", Meaning::Trouble),
        ] {
            assert_eq!(Refusal::read(text).meaning(), meaning, "{text}");
        }
        let failed = Refusal::read("E_TOUCH_FAILED TOUCH 0d5a7c3f9b1e2468 failed ID not in flight");
        assert_eq!(failed.message(), Some(MessageId(*b"0d5a7c3f9b1e2468")));
        assert_eq!(Refusal::read("E_INVALID x").message(), None);
    }

    #[test]
    fn what_to_do_is_said() {
        let text = Refusal::read("E_INVALID cannot SUB in current state (TLS required)").to_string();
        assert_eq!(text, "the server answers `E_INVALID cannot SUB in current state (TLS required)` [add `tls=yes` to the URL]");
    }
}

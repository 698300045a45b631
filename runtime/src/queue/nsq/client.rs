//! A client of NSQ's protocol V2: frames, commands and IDENTIFY as pure values (`frame.rs`, `command.rs`, `identify.rs`, `refusal.rs`), and
//! the two things that hold a socket (`connection.rs`, `http.rs`). What is done with it all is the adapter's.
//!
//! Written here because no client crate is kept up: the one on tokio pins a TLS library with known holes. Left out on purpose: snappy and
//! deflate, which cost more than they save within a data centre, and sampling, which loses messages.

pub(super) mod command;
pub(super) mod connection;
pub(super) mod frame;
pub(super) mod http;
pub(super) mod identify;
pub(super) mod refusal;
pub(super) mod tls;
pub(super) mod wire;

use self::refusal::Refusal;

/// Why a server can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// It can't be reached, went away, or does not answer.
    Away(String),
    /// It answers, and will not do this for us.
    Refused(Refusal),
    /// What we were told to use can't be used with it: certificates, a bound that it has.
    Unfit(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Away(text) | Self::Unfit(text) => f.write_str(text),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

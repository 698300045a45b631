//! What running a handler came to, as data: never an error for something that a guest did.

use std::time::Duration;

/// What running a handler came to (delivery.md §1, sandbox.md §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The handler returned ok.
    Done,
    /// The handler asked for another try.
    Retry {
        /// For people.
        reason: String,
        /// The wait it asked for; none: the handler's backoff.
        after: Option<Duration>,
    },
    /// The handler says that it will never work.
    Reject {
        /// For people.
        reason: String,
    },
    /// Any trap, stack overflow, invalid result, too many handles, too large an argument.
    Trap {
        /// The guest's own text where it has one.
        reason: String,
        /// Which bound fired, if one did.
        limit: Option<Limit>,
    },
    /// Fuel used up.
    Fuel {
        /// The bound, in wasmtime fuel.
        limit: Limit,
    },
    /// A memory or table growth was denied and the call then failed.
    Memory {
        /// `memory` or `tables`, with its value.
        limit: Limit,
    },
    /// Past the deadline, in the guest or in a host call.
    Deadline {
        /// The deadline in milliseconds.
        limit: Limit,
    },
    /// Over a counted limit: log bytes, publishes, requests, response bytes.
    Output {
        /// Which one, with its value.
        limit: Limit,
    },
    /// A host call failed for an outside reason and the call did not end done or reject.
    Host {
        /// What failed, and what the guest made of it.
        reason: String,
        /// `total-memory`, where that was the reason.
        limit: Option<Limit>,
        /// The wait that the handler asked for; none: the backoff alone.
        after: Option<Duration>,
    },
    /// No instance could be made.
    Load {
        /// Why.
        reason: String,
    },
    /// Began and never reported.
    Lost,
}

/// A limit that fired, with its value in the unit of weir.toml (bytes, milliseconds, fuel, or a count).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Its key in weir.toml, or `stack`, `arguments`.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

impl Outcome {
    /// Every name that an outcome can have, in JSON, logs, metrics and tests (surface.md §3).
    pub const NAMES: [&str; 11] =
        ["done", "retry", "reject", "trap", "fuel", "memory", "deadline", "output", "host", "load", "lost"];

    /// The outcome's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry { .. } => "retry",
            Self::Reject { .. } => "reject",
            Self::Trap { .. } => "trap",
            Self::Fuel { .. } => "fuel",
            Self::Memory { .. } => "memory",
            Self::Deadline { .. } => "deadline",
            Self::Output { .. } => "output",
            Self::Host { .. } => "host",
            Self::Load { .. } => "load",
            Self::Lost => "lost",
        }
    }

    /// Where the outcome stands in [`Outcome::NAMES`]: an index for counters.
    #[must_use]
    pub fn index(&self) -> usize {
        let name = self.name();
        Self::NAMES.iter().position(|known| *known == name).unwrap_or_default()
    }

    /// The limit that fired.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Fuel { limit } | Self::Memory { limit } | Self::Deadline { limit } | Self::Output { limit } => Some(*limit),
            Self::Trap { limit, .. } | Self::Host { limit, .. } => *limit,
            _ => None,
        }
    }

    /// One sentence for people: logs and dead letters.
    #[must_use]
    pub fn reason(&self) -> String {
        let over = |what: &str, limit: &Limit| format!("{what} (limit `{}` = {})", limit.name, limit.value);
        match self {
            Self::Done => "done".to_owned(),
            Self::Retry { reason, .. }
            | Self::Reject { reason }
            | Self::Trap { reason, .. }
            | Self::Host { reason, .. }
            | Self::Load { reason } => reason.clone(),
            Self::Fuel { limit } => over("used up its fuel", limit),
            Self::Memory { limit } => over("asked for more memory than it may have", limit),
            Self::Deadline { limit } => over("ran past its deadline, milliseconds", limit),
            Self::Output { limit } => over("passed a limit on what it may emit", limit),
            Self::Lost => "began and never reported (the process ended while it ran)".to_owned(),
        }
    }
}

//! From how a call ended and what was noted on the way to its outcome (sandbox.md §3): pure, no engine, no clock.

use std::time::Duration;

use crate::config::Limits;
use crate::outcome::{Limit, Outcome};

/// Longest reason kept, in bytes: a guest may return megabytes.
const REASON_MAX: usize = 4 * 1024;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The handler returned ok.
    Done,
    /// The handler returned a failure.
    Retry { reason: String, after: Option<Duration> },
    /// The handler returned a rejection.
    Reject { reason: String },
    /// The call did not return.
    Fault { kind: Fault, text: String },
}

impl Ending {
    /// The same with another text of the guest's own.
    pub(crate) fn map_text(self, map: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Done => Self::Done,
            Self::Retry { reason, after } => Self::Retry { reason: map(reason), after },
            Self::Reject { reason } => Self::Reject { reason: map(reason) },
            Self::Fault { kind, text } => Self::Fault { kind, text: map(text) },
        }
    }
}

/// Why a call did not return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Fuel,
    Deadline,
    Stack,
    Handles,
    Arguments,
    /// A program ended itself. Its text is whole: what it wrote last is in it.
    Exit,
    Other,
}

/// What was noted while the call ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    /// The first outside failure that a host call answered with.
    pub(crate) outside: Option<String>,
    /// The first growth that was denied.
    pub(crate) denied: Option<Limit>,
    /// The counted limit that was passed.
    pub(crate) over: Option<Limit>,
    /// What the guest wrote of its own end.
    pub(crate) last_words: Option<String>,
    /// Bytes that one host call may hand over.
    pub(crate) hostcall_bytes: u64,
}

/// When several rows of the table fit: host, deadline, fuel, memory, output, trap. An answer of the guest stands before all limits it
/// coped with.
pub(crate) fn classify(ending: Ending, notes: Notes, limits: &Limits) -> Outcome {
    let (kind, text) = match ending {
        Ending::Done => return Outcome::Done,
        Ending::Reject { reason } => return Outcome::Reject { reason: cut(reason) },
        Ending::Retry { reason, after } => {
            return match notes.outside {
                Some(outside) => host(outside, &reason, after),
                None => Outcome::Retry { reason: cut(reason), after },
            };
        }
        Ending::Fault { kind, text } => (kind, text),
    };
    let text = match kind {
        Fault::Exit => text,
        _ => notes.last_words.unwrap_or(text),
    };
    if let Some(outside) = notes.outside {
        return host(outside, &text, None);
    }
    let limit = |name, value| Limit { name, value };
    match (kind, notes.denied, notes.over) {
        (Fault::Deadline, ..) => Outcome::Deadline { limit: limit("deadline", crate::clock::millis(limits.deadline)) },
        (Fault::Fuel, ..) => Outcome::Fuel { limit: limit("fuel", limits.fuel) },
        (_, Some(limit), _) => Outcome::Memory { limit },
        (_, _, Some(limit)) => Outcome::Output { limit },
        (kind, ..) => {
            let limit = match kind {
                Fault::Handles => Some(limit("handles", u64::from(limits.handles))),
                Fault::Stack => Some(limit("stack", crate::config::Ceilings::default().stack)),
                Fault::Arguments => Some(limit("arguments", notes.hostcall_bytes)),
                _ => None,
            };
            Outcome::Trap { reason: cut(text), limit }
        }
    }
}

fn host(outside: String, said: &str, after: Option<Duration>) -> Outcome {
    let reason = if said.is_empty() || outside.contains(said) { outside } else { format!("{outside} (handler: {said})") };
    Outcome::Host { reason: cut(reason), limit: None, after }
}

fn cut(mut reason: String) -> String {
    if reason.len() > REASON_MAX {
        reason.truncate(reason.floor_char_boundary(REASON_MAX));
        reason.push('…');
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: Fault) -> Ending {
        Ending::Fault { kind, text: "wasm trap: unreachable".to_owned() }
    }

    fn check(ending: Ending, notes: Notes, name: &str, limit: Option<&str>) {
        let outcome = classify(ending, notes, &Limits::default());
        assert_eq!((outcome.name(), outcome.limit().map(|limit| limit.name)), (name, limit), "{outcome:?}");
    }

    #[test]
    fn the_table_of_outcomes() {
        let none = Notes::default;
        let memory = Notes { denied: Some(Limit { name: "tables", value: 1 }), ..none() };
        let output = Notes { over: Some(Limit { name: "requests", value: 1 }), ..none() };
        let outside = Notes { outside: Some("mail: relay is away".to_owned()), ..none() };
        let retry = || Ending::Retry { reason: "later".to_owned(), after: None };
        check(Ending::Done, outside.clone(), "done", None);
        check(Ending::Reject { reason: "no".to_owned() }, outside.clone(), "reject", None);
        check(retry(), none(), "retry", None);
        check(retry(), outside.clone(), "host", None);
        check(retry(), memory.clone(), "retry", None);
        check(fault(Fault::Other), none(), "trap", None);
        check(fault(Fault::Exit), none(), "trap", None);
        check(fault(Fault::Exit), memory.clone(), "memory", Some("tables"));
        check(fault(Fault::Exit), outside.clone(), "host", None);
        check(fault(Fault::Stack), none(), "trap", Some("stack"));
        check(fault(Fault::Handles), none(), "trap", Some("handles"));
        check(fault(Fault::Arguments), none(), "trap", Some("arguments"));
        check(fault(Fault::Other), memory.clone(), "memory", Some("tables"));
        check(fault(Fault::Other), output.clone(), "output", Some("requests"));
        check(fault(Fault::Fuel), memory.clone(), "fuel", Some("fuel"));
        check(fault(Fault::Deadline), output, "deadline", Some("deadline"));
        check(fault(Fault::Deadline), outside, "host", None);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "é".repeat(REASON_MAX);
        let Outcome::Reject { reason } = classify(Ending::Reject { reason }, Notes::default(), &Limits::default()) else {
            panic!()
        };
        assert!(reason.len() <= REASON_MAX + 3 && reason.ends_with('…'));
    }
}

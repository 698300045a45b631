//! `*.test.toml`: cases of a handler for `weir test`, read as weir.toml is. Running them is for `cases.rs`.
//!
//! Texts stand as they are written, without `${…}`: a case says the same on every machine. What is a handler's (`config`, `grants`,
//! `limits`) is read by the readers of weir.toml, and is what it is there.

mod answers;
mod event;
mod expect;
mod file;
mod steps;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

pub use self::file::{load_cases, nearest_config};
use super::{ConfigValue, HandlerConfig};
use crate::clock::Timestamp;
use crate::event::Event;
use crate::outgoing::Answered;

/// The cases of one file.
#[derive(Debug, Clone)]
pub struct CaseFile {
    /// What they are about.
    pub subject: Subject,
    /// In the order of the file.
    pub cases: Vec<Case>,
}

/// What cases are about.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A handler of weir.toml.
    Handler {
        /// Its name.
        name: String,
        /// Values of its configuration that the file replaces.
        config: Vec<(String, ConfigValue)>,
    },
    /// A component, with what the file says of it.
    Component {
        /// The name that it is told: its file's.
        name: String,
        /// As in `[handler.*]`.
        config: Box<HandlerConfig>,
    },
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Unique in its file.
    pub name: String,
    /// Where it stands, from 1.
    pub line: usize,
    /// Values of the handler's configuration that it replaces.
    pub config: Vec<(String, ConfigValue)>,
    /// What its clock shows when it begins; none: what time it is then.
    pub now: Option<Timestamp>,
    /// What requests are answered, in turn, the last one again and again; empty: every request is denied.
    pub http: Vec<Answered>,
    /// What happens, in order; never empty.
    pub steps: Vec<Step>,
    /// What is expected of the steps that expect nothing of their own.
    pub expect: Option<Expect>,
}

/// One thing that happens in a case.
#[derive(Debug, Clone)]
pub struct Step {
    /// How its clock goes on before.
    pub clock: Clock,
    /// The event that arrives; none: time passes and that is all. It may have no `id` and no `time` yet.
    pub event: Option<Arc<Event>>,
    /// What is expected of this step alone.
    pub expect: Option<Expect>,
}

/// How the clock of a case goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// It stands still.
    Still,
    /// To this time, which is not before the one that it shows.
    To(Timestamp),
    /// By so much.
    By(Duration),
}

/// What is expected of some runs of the handler.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// What they come to.
    pub outcome: Outcomes,
    /// What their reasons hold, together.
    pub reason: Vec<Check>,
    /// The limit that fired.
    pub limit: Option<String>,
    /// The wait that the last of them asked for.
    pub retry_after: Option<Duration>,
    /// Each used less fuel.
    pub fuel_below: Option<u64>,
    /// What their logs hold, together.
    pub log: Vec<Check>,
    /// What they mailed.
    pub email: Things,
    /// What they published.
    pub published: Things,
    /// What they asked of others over HTTP.
    pub http: Things,
    /// What buckets hold after them, by name.
    pub buckets: Vec<(String, Test)>,
}

/// What runs come to, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outcomes {
    /// All of them to `done`, if there are any.
    #[default]
    Done,
    /// All of them to this, and there is one.
    All(String),
    /// Each in turn.
    Each(Vec<String>),
}

/// What is expected to have left.
#[derive(Debug, Clone)]
pub enum Things {
    /// Anything, or nothing.
    Any,
    /// These, in this order, and no other; each by what is checked of it.
    These(Vec<Vec<Check>>),
}

/// Nothing.
impl Default for Things {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

/// One thing that is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// As the file names it: `subject-contains`.
    pub key: String,
    /// Of which value of the thing.
    pub of: &'static str,
    /// How.
    pub test: Test,
}

/// How a value is checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It is this.
    Is(Json),
    /// It is a text that holds each of these.
    Contains(Vec<String>),
    /// It is a text that holds none of these, or nothing.
    Lacks(Vec<String>),
    /// It has these keys with these values, and perhaps others: so on down.
    Has(Json),
}

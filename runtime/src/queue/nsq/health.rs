//! Whether the queue can be used, and what a problem of a server is to whoever asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::client::Problem;
use super::client::refusal::Meaning;
use super::line::Line;
use super::shared::Shared;
use crate::queue::{Health, QueueError};

impl Shared {
    /// With the queue's URL, which holds no secret.
    pub(super) fn explained(&self, problem: &Problem) -> QueueError {
        match QueueError::from(problem.clone()) {
            QueueError::Invalid(text) => QueueError::Invalid(format!("{}: {text}", self.url)),
            QueueError::Unavailable(text) => QueueError::Unavailable(format!("{}: {text}", self.url)),
            other => other,
        }
    }

    pub(super) fn health(&self) -> Health {
        let problem = self.problem();
        if problem.is_none() {
            self.connected_once.store(true, Ordering::Relaxed);
        }
        Health { connected_once: self.connected_once.load(Ordering::Relaxed), error: problem, ..Health::default() }
    }

    /// Why the queue can't be used: no server is there, or some subscription has none. One of several that is away is no reason.
    fn problem(&self) -> Option<String> {
        let nodes = self.nodes();
        if nodes.is_empty() {
            return self.lookup.problem();
        }
        let producers = nodes.iter().map(|node| Arc::clone(&node.producer));
        if let Some(problem) = none_connected(producers) {
            return Some(problem);
        }
        self.subscriptions().iter().find_map(|subscription| {
            let lines: Vec<Arc<Line>> = subscription.lines().values().cloned().collect();
            if lines.is_empty() { None } else { none_connected(lines.into_iter()) }
        })
    }
}

/// Why none of these lines has a connection; none: one has.
fn none_connected(lines: impl Iterator<Item = Arc<Line>>) -> Option<String> {
    let mut problem = None;
    for line in lines {
        if line.feed().is_some() {
            return None;
        }
        let why = line.status().problem.map_or_else(|| "not connected yet".to_owned(), |problem| problem.to_string());
        problem.get_or_insert(format!("{}: {why}", line.address));
    }
    problem
}

pub(super) fn is_invalid(error: &QueueError) -> bool {
    matches!(error, QueueError::Invalid(_))
}

impl From<Problem> for QueueError {
    fn from(problem: Problem) -> Self {
        match &problem {
            Problem::Unfit(text) => Self::Invalid(text.clone()),
            Problem::Away(text) => Self::Unavailable(text.clone()),
            Problem::Refused(refusal) => match refusal.meaning() {
                Meaning::TooLarge { size, bound } => Self::TooLarge { size, bound },
                Meaning::Invalid => Self::Invalid(refusal.to_string()),
                Meaning::Gone | Meaning::Trouble => Self::Unavailable(refusal.to_string()),
            },
        }
    }
}

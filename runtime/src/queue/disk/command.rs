//! What callers ask of the writer.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::row::Row;
use crate::queue::{QueueError, Settlement, Start};

/// Where a command's caller waits.
pub(super) type Answer = oneshot::Sender<Result<(), QueueError>>;

/// What callers ask of the writer.
#[derive(Debug)]
pub(super) enum Command {
    Publish {
        rows: Vec<Row>,
        delayed: Vec<Row>,
        weight: OwnedSemaphorePermit,
        answer: Answer,
    },
    Settle {
        subscription: String,
        batch: Vec<Settlement>,
        answer: Answer,
    },
    Subscribe {
        subscription: String,
        start: Start,
        answer: Answer,
    },
    Unsubscribe {
        subscription: String,
        answer: Answer,
    },
    /// Takes delayed publishes away that have not arrived.
    Undelay {
        keys: Vec<(u64, u64)>,
        answer: Answer,
    },
    /// Opens the file again, if that is needed.
    Recover {
        answer: Answer,
    },
    Close,
}

impl Command {
    /// How many events it is about: a commit takes a bounded number.
    pub(super) fn events(&self) -> usize {
        match self {
            Self::Publish { rows, delayed, .. } => rows.len() + delayed.len(),
            Self::Settle { batch, .. } => batch.len(),
            Self::Undelay { keys, .. } => keys.len(),
            _ => 1,
        }
    }

    /// Whether it changes who holds what, so that it is decided and written alone.
    pub(super) fn alone(&self) -> bool {
        matches!(self, Self::Subscribe { .. } | Self::Unsubscribe { .. } | Self::Recover { .. } | Self::Close)
    }

    pub(super) fn answer(self) -> Option<Answer> {
        match self {
            Self::Publish { answer, .. }
            | Self::Settle { answer, .. }
            | Self::Subscribe { answer, .. }
            | Self::Unsubscribe { answer, .. }
            | Self::Undelay { answer, .. }
            | Self::Recover { answer } => Some(answer),
            Self::Close => None,
        }
    }
}

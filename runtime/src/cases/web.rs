//! The network of a case: answers what the case says, and keeps what was asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use crate::outgoing::{Answered, Answers, Asked, Outgoing};

/// What requests are answered, in turn; the last one again and again.
#[derive(Debug)]
pub(super) struct Web {
    answers: Vec<Answered>,
    // Written by requests, read after each run. Held for one look.
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    count: usize,
    /// Since the last look: as many as one run may make (`requests`).
    asked: Vec<Asked>,
}

impl Web {
    pub(super) fn new(answers: &[Answered]) -> Arc<Self> {
        Arc::new(Self { answers: answers.to_vec(), seen: Mutex::default() })
    }

    /// The way of requests: here, or nowhere for a case that has no answer.
    pub(super) fn outgoing(self: &Arc<Self>) -> Outgoing {
        match self.answers.is_empty() {
            true => Outgoing::refusing(Handle::current(), "the case has no `http`, which says what is answered"),
            false => Outgoing::answered(Handle::current(), Arc::clone(self) as _),
        }
    }

    /// Takes what was asked since the last time.
    pub(super) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.seen().asked)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers for Web {
    fn answer(&self, request: &Asked) -> Answered {
        let mut seen = self.seen();
        let at = seen.count.min(self.answers.len().saturating_sub(1));
        seen.count += 1;
        seen.asked.push(request.clone());
        let none = Answered { status: 599, headers: std::collections::BTreeMap::new(), body: bytes::Bytes::new() };
        self.answers.get(at).cloned().unwrap_or(none)
    }
}

//! Commits: one on its way at a time.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::Reader;
use crate::queue::QueueError;
use crate::queue::kafka::client::{ANSWER_MAX, code, failed, refuses};
use crate::queue::kafka::desk::Planned;
use crate::queue::kafka::native;

/// Before a commit that failed is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// Longest wait for the last commit before partitions are given up.
const LAST_MAX: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(super) struct Commits {
    sent: Option<(Vec<Planned>, Instant)>,
    not_before: Option<Instant>,
}

impl Reader {
    /// Commits what has changed, unless a commit is on its way.
    pub(super) fn commit(&mut self) {
        let now = Instant::now();
        // An answer that never came, as the client answers each: it would be in the way for ever.
        if self.commits.sent.as_ref().is_some_and(|(_, sent)| now.duration_since(*sent) > ANSWER_MAX * 4) {
            self.commits.sent = None;
        }
        if self.commits.sent.is_some() || self.commits.not_before.is_some_and(|then| now < then) {
            return;
        }
        let planned = self.subscription.desk().plan();
        if planned.is_empty() {
            return;
        }
        match native::commit(self.consumer.client().native_ptr(), &self.offsets(&planned)) {
            Ok(()) => self.commits.sent = Some((planned, now)),
            Err(error) => self.not_committed(&planned, &error),
        }
    }

    fn offsets(&self, planned: &[Planned]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for planned in planned {
            let mut element = list.add_partition(&self.topic(planned.slot), planned.slot.partition);
            // Can't fail for a number; one that is not set is not committed.
            let _ = element.set_offset(Offset::Offset(planned.commit.offset));
            element.set_metadata(&planned.commit.metadata);
        }
        list
    }

    /// The answer to the commit that was on its way.
    pub(super) fn committed(&mut self, answer: Result<(), RDKafkaErrorCode>, each: &[(String, i32, Option<RDKafkaErrorCode>)]) {
        let Some((planned, sent)) = self.commits.sent.take() else { return };
        if let Err(code) = answer {
            return self.not_committed(&planned, &KafkaError::ConsumerCommit(code));
        }
        let (old, mut woken, mut ours) = (self.subscription.age() > self.shared.url.lease * 2 / 3, false, false);
        for planned in planned {
            let topic = self.topic(planned.slot);
            let found = each.iter().find(|(name, partition, _)| *name == topic && *partition == planned.slot.partition);
            match found.and_then(|(.., error)| *error) {
                Some(code) => self.not_committed(&[planned], &KafkaError::ConsumerCommit(code)),
                None => {
                    ours = true;
                    woken |= self.subscription.desk().committed(&planned);
                }
            }
        }
        if ours {
            self.subscription.is_confirmed(sent);
        }
        if woken || old {
            self.subscription.wake_pulls();
        }
    }

    /// It is tried again; whoever waits is told where that is no use.
    fn not_committed(&mut self, planned: &[Planned], error: &KafkaError) {
        self.commits.not_before = Some(Instant::now() + AGAIN);
        tracing::debug!(queue = %self.shared.name, group = %self.subscription.group, %error, "a commit failed");
        let no_use = code(error).is_some_and(|code| refuses(code) || code == RDKafkaErrorCode::OffsetMetadataTooLarge);
        if no_use {
            let what = format!("consumer group `{}`: a commit", self.subscription.group);
            let problem = match failed(&what, error) {
                QueueError::Invalid(text) => QueueError::Unavailable(text),
                other => other,
            };
            for planned in planned {
                self.subscription.desk().refused(planned.slot, &problem);
            }
        }
    }

    /// Commits what there is and waits for it, for a while: the partitions are given up next.
    pub(super) fn commit_at_last(&mut self) {
        let begun = Instant::now();
        while self.subscription.desk().is_dirty() && begun.elapsed() < LAST_MAX {
            self.commit();
            if self.serve().is_err() {
                return;
            }
            if self.subscription.desk().is_dirty() {
                self.subscription.waker.wait(Duration::from_millis(5));
            }
        }
    }
}

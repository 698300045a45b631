//! Partitions come and go.

use std::time::Instant;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer, RebalanceProtocol};
use rdkafka::topic_partition_list::Offset;

use super::{Reader, Source, Told};
use crate::queue::QueueError;
use crate::queue::kafka::desk::Slot;
use crate::queue::kafka::window::Window;

impl Reader {
    /// Answers what was told of partitions, in its order. What can't be answered yet is asked again when the thread goes round.
    pub(super) fn answer(&mut self) {
        while let Some(told) = self.told.front() {
            let answered = match told {
                Told::Assign(list) => {
                    let list = list.clone();
                    self.begin(&list)
                }
                Told::Revoke(list) => {
                    let slots: Vec<Slot> = list.iter().map(|(topic, partition)| self.slot(topic, *partition)).collect();
                    self.give_up(&slots)
                }
                Told::Committed(..) => true,
            };
            if !answered {
                return;
            }
            self.told.pop_front();
        }
    }

    /// Begins where the last owner's commit says.
    fn begin(&mut self, all: &[(String, i32)]) -> bool {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in all {
            list.add_partition(topic, *partition);
        }
        let windows = match self.windows(all) {
            Ok(windows) => windows,
            Err(QueueError::Invalid(text) | QueueError::Unavailable(text)) => {
                // Somebody may change it while the server runs.
                self.subscription.fail(QueueError::Unavailable(text));
                return false;
            }
            Err(error) => {
                self.subscription.fail(error);
                return false;
            }
        };
        for (topic, slot, window) in windows {
            if let Err(error) = list.set_partition_offset(&topic, slot.partition, Offset::Offset(window.base())) {
                tracing::debug!(queue = %self.shared.name, %error, "an offset could not be set");
            }
            if let Some(mut queue) = self.consumer.split_partition_queue(&topic, slot.partition) {
                let waker = std::sync::Arc::clone(&self.subscription.waker);
                queue.set_nonempty_callback(move || waker.wake());
                // It may have been ours before, and paused: librdkafka keeps that.
                self.sources.insert(slot, Source { queue, idle: None, paused: true });
            }
            self.subscription.desk().assign(slot, window);
        }
        tracing::info!(queue = %self.shared.name, subscription = %self.subscription.name, partitions = ?all, "partitions are read");
        let assigned = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&list),
            _ => self.consumer.assign(&list),
        };
        if let Err(error) = assigned {
            tracing::warn!(queue = %self.shared.name, %error, "partitions could not be taken");
        }
        true
    }

    /// How far each is done. Asked of the group, and not of the consumer: the crate (0.39) panics at metadata of others that is no UTF-8.
    fn windows(&self, all: &[(String, i32)]) -> Result<Vec<(String, Slot, Window)>, QueueError> {
        let committed = self.shared.cluster.committed_of_all(&self.subscription.group)?;
        let window = |(topic, partition): &(String, i32)| {
            let found = committed.iter().find(|committed| committed.topic == *topic && committed.partition == *partition);
            // One without came after the subscription was made: all of it is new.
            let window = found.map_or_else(|| Window::new(0), |found| Window::read(found.offset, &found.metadata));
            (topic.clone(), self.slot(topic, *partition), window)
        };
        Ok(all.iter().map(window).collect())
    }

    /// Lets what runs finish, commits and gives the partitions up; whether that is done.
    fn give_up(&mut self, slots: &[Slot]) -> bool {
        let now = Instant::now();
        let lost = self.consumer.assignment_lost();
        if self.leaving.is_none() {
            self.leaving = Some(now);
            // A margin for the last commit, and for a clock that is late.
            let until = now + self.shared.url.rebalance * 9 / 10;
            self.subscription.desk().leave(slots, until);
        }
        if !lost && !self.subscription.desk().may_go(slots, now) {
            return false;
        }
        let told = self.subscription.desk().close(slots);
        if told {
            self.subscription.tell_lapsed();
        }
        if !lost {
            self.commit_at_last();
        }
        for slot in slots {
            self.sources.remove(slot);
        }
        self.subscription.desk().lose(slots);
        let list = self.list(slots);
        let gone = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_unassign(&list),
            _ => self.consumer.unassign(),
        };
        if let Err(error) = gone {
            tracing::warn!(queue = %self.shared.name, %error, "partitions could not be given up");
        }
        tracing::info!(queue = %self.shared.name, subscription = %self.subscription.name, ?slots, lost, "partitions are given up");
        self.leaving = None;
        true
    }

    /// Gives back what is held, commits and leaves the group. Of a queue that was dropped, only what is known is committed, as of a
    /// process that was killed a moment later.
    pub(super) fn end(mut self) {
        if self.shared.closed.is_cancelled() && !self.shared.is_dropped() || self.subscription.is_removed() {
            let slots = self.subscription.desk().slots();
            let told = self.subscription.desk().close(&slots);
            if told {
                self.subscription.tell_lapsed();
            }
        }
        self.commit_at_last();
        let slots = self.subscription.desk().slots();
        self.subscription.desk().lose(&slots);
    }
}

/// Partitions that were told to come or go are still owed an answer; then the consumer leaves, when it is dropped.
impl Drop for Reader {
    fn drop(&mut self) {
        self.context.close();
        self.sources.clear();
        while let Some(told) = self.told.pop_front() {
            let (assign, list) = match &told {
                Told::Assign(list) => (true, list),
                Told::Revoke(list) => (false, list),
                Told::Committed(..) => continue,
            };
            let slots: Vec<Slot> = list.iter().map(|(topic, partition)| self.slot(topic, *partition)).collect();
            let list = self.list(&slots);
            let answered = match (assign, self.consumer.rebalance_protocol()) {
                (true, RebalanceProtocol::Cooperative) => self.consumer.incremental_assign(&list),
                (true, _) => self.consumer.assign(&list),
                (false, RebalanceProtocol::Cooperative) => self.consumer.incremental_unassign(&list),
                (false, _) => self.consumer.unassign(),
            };
            if let Err(error) = answered {
                tracing::debug!(queue = %self.shared.name, %error, "partitions could not be given up at the end");
            }
        }
    }
}

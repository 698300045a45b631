//! Topics and subscriptions are found, or made. Blocks, as [`Cluster`] does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::client::ANSWER_MAX;
use super::cluster::Cluster;
use super::window::Window;
use crate::queue::{QueueError, Start};

/// Consumer groups that are looked at, for where a new one begins and for orphans.
const GROUPS_MAX: usize = 1_000;

/// Longest wait for a topic that was just made to be there.
const MADE_MAX: Duration = Duration::from_secs(5);

/// Its partitions, and the largest message that it takes.
pub(super) fn find_or_make(cluster: &Cluster, most: Duration) -> Result<(Vec<i32>, u64), QueueError> {
    let topic = cluster.url.topic.as_str();
    let found = match (cluster.partitions(topic, most)?, cluster.url.partitions) {
        (Some(found), _) => found,
        (None, None) => {
            return Err(QueueError::Invalid(format!(
                "topic `{topic}` is not there [make it, or let Weir do so with `partitions=N` in the URL]"
            )));
        }
        (None, Some(partitions)) => {
            cluster.make(topic, partitions as usize, &[])?;
            wait_for(cluster, topic)?
        }
    };
    Ok((found, cluster.message_bytes(topic)))
}

/// The partitions of a topic that was just made: not every broker knows it at once.
pub(super) fn wait_for(cluster: &Cluster, topic: &str) -> Result<Vec<i32>, QueueError> {
    let begun = Instant::now();
    loop {
        match cluster.partitions(topic, MADE_MAX)? {
            Some(found) => return Ok(found),
            None if begun.elapsed() > MADE_MAX => {
                return Err(QueueError::Unavailable(format!("topic `{topic}` was made and is not there yet")));
            }
            // Nobody tells when it is there.
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// What became of a group.
pub(super) struct Made {
    pub(super) is_there: bool,
    pub(super) has_retries: bool,
    /// Other groups that are Weir's.
    pub(super) others: BTreeSet<String>,
}

/// Finds a group's commits, or makes them: they are what makes it exist.
pub(super) fn find_or_begin(
    cluster: &Cluster,
    group: &str,
    partitions: &[i32],
    start: Option<Start>,
) -> Result<Made, QueueError> {
    let topic = cluster.url.topic.as_str();
    let has_retries = cluster.partitions(&cluster.url.retry_topic(group), ANSWER_MAX).is_ok_and(|found| found.is_some());
    let mut made = Made { is_there: true, has_retries, others: BTreeSet::new() };
    if !cluster.committed(group, topic)?.is_empty() {
        return Ok(made);
    }
    let Some(start) = start else { return Ok(Made { is_there: false, ..made }) };
    let mut watermarks = BTreeMap::new();
    for partition in partitions {
        watermarks.insert(*partition, cluster.watermarks(topic, *partition)?);
    }
    // Another process may have made it meanwhile: what was published since is not to be skipped.
    if !cluster.committed(group, topic)?.is_empty() {
        return Ok(made);
    }
    let touched = look_at_others(cluster, group, &watermarks, &mut made.others);
    let from_the_first = start == Start::All || !touched;
    let begin = watermarks.iter().map(|(partition, (low, high))| {
        let offset = if from_the_first { *low } else { *high };
        (*partition, offset, Window::new(offset).commit().metadata)
    });
    let begin: Vec<_> = begin.collect();
    match cluster.commit(group, topic, &begin) {
        Ok(()) => Ok(made),
        // Another process made it, and is in it by now.
        Err(error) => match cluster.committed(group, topic)?.is_empty() {
            true => Err(error),
            false => Ok(made),
        },
    }
}

/// Whether some group has ended an event of the topic.
fn look_at_others(cluster: &Cluster, group: &str, watermarks: &BTreeMap<i32, (i64, i64)>, ours: &mut BTreeSet<String>) -> bool {
    // Where groups can't be listed, it is taken that there are others.
    let Ok(groups) = cluster.groups() else { return true };
    let mut touched = groups.len() > GROUPS_MAX;
    for other in groups.iter().filter(|other| *other != group).take(GROUPS_MAX) {
        let Ok(all) = cluster.committed(other, &cluster.url.topic) else { continue };
        for committed in &all {
            let low = watermarks.get(&committed.partition).map_or(0, |(low, _)| *low);
            let window = Window::read(committed.offset, &committed.metadata);
            touched |= committed.offset > low || window.ended_above() > 0;
        }
        if all.iter().any(|committed| Window::is_ours(&committed.metadata)) {
            ours.insert(other.clone());
        }
    }
    touched
}

/// The groups of the topic that are Weir's.
pub(super) fn orphans(cluster: &Cluster) -> BTreeSet<String> {
    let mut ours = BTreeSet::new();
    look_at_others(cluster, "", &BTreeMap::new(), &mut ours);
    ours
}

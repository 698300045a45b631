//! How much waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::desk::Slot;
use super::lock;
use super::making;
use super::shared::Shared;
use super::subscription::Subscription;
use super::window::Window;
use crate::clock::Timestamp;
use crate::queue::{Depth, QueueError, SubscriptionDepth};

/// Records that are looked at for when they were published, in one asking; the oldest of the others is not known then.
const LOOKED_AT_MAX: usize = 16;

/// Between two looks for groups that are Weir's and of no handler here: each asks the cluster for every group.
const ORPHANS: Duration = Duration::from_secs(600);

/// What this process knows of a partition that it reads.
struct Ours {
    base: i64,
    ended_above: u64,
    out: u64,
    oldest: Option<Timestamp>,
}

/// A group to tell of.
struct Group {
    name: String,
    group: String,
    /// It has a topic of long waits, for all we know.
    retries: bool,
    ours: BTreeMap<Slot, Ours>,
}

/// What a topic holds: of each partition the lowest offset, and the one after its last.
type Log = BTreeMap<i32, (i64, i64)>;

impl Shared {
    pub(super) async fn depth(&self) -> Result<Depth, QueueError> {
        let partitions = self.topic(super::client::ANSWER_MAX / 2).await?;
        let subscriptions = self.subscriptions();
        let known: BTreeSet<String> = subscriptions.iter().map(|subscription| subscription.group.clone()).collect();
        let old = lock(&self.looked).is_none_or(|at| at.elapsed() >= ORPHANS);
        if old {
            let found = self.ask(|cluster| Ok(making::orphans(cluster))).await?;
            *lock(&self.orphans) = found;
            *lock(&self.looked) = Some(Instant::now());
        }
        let orphans = lock(&self.orphans).clone();
        let orphans = orphans.difference(&known).map(|name| Group {
            name: name.clone(),
            group: name.clone(),
            retries: true,
            ours: BTreeMap::new(),
        });
        let groups: Vec<Group> = subscriptions.iter().map(|subscription| group(subscription)).chain(orphans).collect();
        self.ask(move |cluster| {
            let log = log(cluster, &cluster.url.topic, &partitions)?;
            let mut left = LOOKED_AT_MAX;
            let mut all = Vec::new();
            for group in &groups {
                all.extend(of_group(cluster, group, &log, &mut left)?);
            }
            let most = all.iter().filter_map(|depth| depth.events).max();
            let whole = log.values().map(|(low, high)| high.abs_diff(*low)).sum();
            Ok(Depth { events: Some(most.unwrap_or(whole)), bytes: None, subscriptions: all })
        })
        .await
    }
}

fn group(subscription: &Subscription) -> Group {
    let desk = subscription.desk();
    let ours = desk.slots().into_iter().filter_map(|slot| {
        let window = desk.window(slot)?;
        let (out, oldest) = desk.shows(slot);
        Some((slot, Ours { base: window.base(), ended_above: window.ended_above(), out, oldest }))
    });
    let retries = subscription.has_retries.load(Ordering::Relaxed);
    Group { name: subscription.name.clone(), group: subscription.group.clone(), retries, ours: ours.collect() }
}

fn log(cluster: &Cluster, topic: &str, partitions: &[i32]) -> Result<Log, QueueError> {
    partitions.iter().map(|partition| Ok((*partition, cluster.watermarks(topic, *partition)?))).collect()
}

/// None: it is not there.
fn of_group(cluster: &Cluster, group: &Group, log: &Log, left: &mut usize) -> Result<Option<SubscriptionDepth>, QueueError> {
    let main = cluster.committed(&group.group, &cluster.url.topic)?;
    if main.is_empty() {
        return Ok(None);
    }
    let mut depth =
        SubscriptionDepth { name: group.name.clone(), events: Some(0), oldest: None, in_flight: Some(0), partitions: Vec::new() };
    add(cluster, &mut depth, (group, false, &cluster.url.topic), (&main, log), left);
    let retries = cluster.url.retry_topic(&group.group);
    // What nobody has read yet counts too.
    if group.retries {
        let partitions = cluster.partitions(&retries, super::client::ANSWER_MAX)?.unwrap_or_default();
        let waits = if partitions.is_empty() { Vec::new() } else { cluster.committed(&group.group, &retries)? };
        let log = self::log(cluster, &retries, &partitions)?;
        add(cluster, &mut depth, (group, true, &retries), (&waits, &log), left);
    }
    Ok(Some(depth))
}

fn add(
    cluster: &Cluster,
    depth: &mut SubscriptionDepth,
    (group, retry, topic): (&Group, bool, &str),
    (committed, log): (&[super::native::Committed], &Log),
    left: &mut usize,
) {
    for (partition, (low, high)) in log {
        let ours = group.ours.get(&Slot { retry, partition: *partition });
        let (base, ended_above) = match ours {
            Some(ours) => (ours.base, ours.ended_above),
            None => {
                let committed = committed.iter().find(|committed| committed.partition == *partition);
                let window = committed.map(|committed| Window::read(committed.offset, &committed.metadata));
                window.map_or((*low, 0), |window| (window.base(), window.ended_above()))
            }
        };
        let events = u64::try_from(high - base.max(*low)).unwrap_or(0).saturating_sub(ended_above);
        depth.events = depth.events.map(|before| before + events);
        // Long waits are nobody's lag.
        if !retry {
            depth.partitions.push((*partition, events));
        }
        depth.in_flight = depth.in_flight.map(|before| before + ours.map_or(0, |ours| ours.out));
        if events > 0 {
            let mut oldest = ours.and_then(|ours| ours.oldest);
            if oldest.is_none() && *left > 0 {
                *left -= 1;
                oldest = cluster.published((&group.group, topic), *partition, base.max(*low));
            }
            depth.oldest = [depth.oldest, oldest].into_iter().flatten().min();
        }
    }
}

//! `unless`: what is remembered of events that make a mail needless, and whether one came.
//!
//! For each `unless` of the rules and each subject there is one key (`u/…`) with the latest event: when it happened, and which it was. It
//! is written whenever such an event comes, whether or not a mail waits, so the order in which "asked" and "answered" arrive does not
//! matter, nor how often each comes: the times at which they happened are compared when the mail is due. The key is deleted by a timer,
//! when the longest wait of the rules as they are now is over, and [`KEPT`] more for an "asked" that comes late.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_sdk::prelude::*;

use super::world::{World, get, update};
use super::{Item, KEPT, Timer, digest, happened, identity, read};
use crate::rules::{Rule, Rules};
use crate::when::later;

/// How much longer quiet hours may make it.
const QUIET_MAX: Duration = Duration::from_secs(2 * 86_400);
/// The latest event of a type and a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    /// When it happened, in milliseconds since 1970.
    at: i64,
    /// Which it was: an event does not make its own mail needless.
    event: u64,
    /// Until when it is remembered.
    until: i64,
}

/// Remembers an event that makes mails needless.
pub(crate) fn note<T>(world: &dyn World, rules: &Rules<'_>, event: &Event<T>, came: Timestamp) -> Result {
    for (pattern, rule) in rules.answered_by(&event.kind).map_err(crate::broken)? {
        let Some(subject) = event.subject.as_deref() else {
            log::warn!("rule `{}`: `unless`: an event of type `{}` has no subject", rule.name, event.kind);
            continue;
        };
        let key = key(pattern, subject);
        let until = later(world.now(), rule.when.wait_max() + QUIET_MAX + KEPT).as_millisecond();
        let came = Answer { at: happened(event, came), event: identity(event), until };
        let until = update(world, &key, |before| {
            let known: Option<Answer> = before.map(|value| read(&key, value)).transpose()?;
            let mut latest = known.filter(|known| (known.at, known.event) > (came.at, came.event)).unwrap_or(came);
            latest.until = known.map_or(until, |known| known.until.max(until));
            Ok((Some(serde_json::to_vec(&latest)?), latest.until))
        })?;
        forget_at(world, key, until)?;
    }
    Ok(())
}

/// Whether a later event made the mail about an item needless.
pub(crate) fn answered(world: &dyn World, rule: &Rule<'_>, item: &Item) -> Result<bool> {
    let Some(subject) = item.subject.as_deref() else { return Ok(false) };
    let own = super::identity_of(&item.source, &item.id);
    for pattern in &rule.unless {
        let key = key(pattern, subject);
        let latest: Option<Answer> = get(world, &key)?.map(|value| read(&key, &value)).transpose()?;
        if latest.is_some_and(|latest| latest.at > item.at || (latest.at == item.at && latest.event != own)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes what is remembered, unless something has prolonged it: that has a timer of its own. (One timer that goes on and on would be
/// taken for a loop, `[ceilings] hops`.)
pub(crate) fn forget(world: &dyn World, key: &str) -> Result {
    let known: Option<Answer> = get(world, key)?.map(|value| read(key, &value)).transpose()?;
    match known {
        Some(known) if known.until <= world.now().as_millisecond() => world.delete(&[key.to_owned()]),
        Some(_) | None => Ok(()),
    }
}

fn forget_at(world: &dyn World, key: String, until: i64) -> Result {
    let due = Timestamp::from_millisecond(until).unwrap_or(Timestamp::MAX);
    world.publish(format!("forget-{}", digest(&[&key, &until.to_string()])), &Timer::Forget(key), due)
}

fn key(pattern: &str, subject: &str) -> String {
    format!("u/{}", digest(&[pattern, subject]))
}

//! What a timer does when its time has come: sends what waits in a window, or deletes what is not needed any more.

use std::time::Duration;

use jiff::Timestamp;
use weir_sdk::prelude::*;

use super::list::{Batch, List, SHOWN_MAX, Step};
use super::world::{World, get, update};
use super::{Item, KEPT, Timer, UNSENT_KEPT, Window, answers, enter, read};
use crate::mail::{self, Context};
use crate::rules::{Rule, Rules};
use crate::when::later;

/// How much longer than a run its mail may be under way: the server hands it over to the end (60 s), and a lease that a killed process
/// had lasts 30 s.
const AFTER_RUN: Duration = Duration::from_secs(90);
/// How often it is looked whether what could not be sent was sent after all: a timer that publishes itself more often would be taken for
/// a loop (`[ceilings] hops`).
const LOOK: Duration = Duration::from_secs(7 * 86_400);
/// Most bytes of events that one mail is made of; what is beyond is counted. Reading and rendering them is paid for in fuel.
const SHOWN_BYTES: usize = 512 * 1024;

/// A timer on this delivery.
pub(crate) struct Run<'a> {
    /// Its id, which every attempt and every copy of it has.
    pub(crate) id: &'a str,
    /// How long it may last.
    pub(crate) time_left: Duration,
}

/// Sends what waits in a window. `rules` are read only when something does: most timers of a digest find it sent.
pub(crate) fn send<'r>(
    world: &dyn World,
    run: &Run<'_>,
    window: &Window,
    rules: &dyn Fn() -> Result<Rules<'r>>,
    context: &Context<'_>,
) -> Result {
    let Some(list) = load(world, window)? else { return Ok(()) };
    let (now, until) = (world.now(), later(world.now(), run.time_left + AFTER_RUN));
    match list.clone().step(run.id, now, until) {
        Step::Nothing => return Ok(()),
        Step::Early => return again(world, run, window, list.due),
        Step::Busy(until) => return Err(busy(now, until)),
        Step::Send(_) => {}
    }
    let rules = rules()?;
    let Some(rule) = rules.named(&window.rule).map_err(crate::broken)? else {
        let what = format!("rule `{}` is not in the rules any more, and {} wait for it", window.rule, list.unsent());
        return Err(reject(format!("{what} (put it back and replay this dead letter, or drop it)")));
    };
    if let Some(quiet) = until_loud(world, &rule, window, &list, now)? {
        // What was begun may have left, and only under this id the server knows it.
        let begun = list.clone().own(run.id).is_some();
        let wait = Duration::from_millis(u64::try_from(quiet.as_millisecond() - now.as_millisecond()).unwrap_or(0));
        return if begun {
            Err(retry_after(format!("rule `{}`: quiet hours until {quiet}", rule.name), wait))
        } else {
            again(world, run, window, quiet.as_millisecond())
        };
    }
    let (step, list) = update(world, &window.key(), |before| {
        let mut list: List = before.map_or(Ok(List::default()), |value| read(&window.key(), value))?;
        let step = list.step(run.id, now, until);
        let after = if matches!(step, Step::Send(_)) { Some(serde_json::to_vec(&list)?) } else { None };
        Ok((after, (step, list)))
    })?;
    match step {
        Step::Send(number) => {
            let batch = list.batches.iter().find(|batch| batch.number == number).cloned().unwrap_or_default();
            Post { world, rule: &rule, window, context }.deliver(&list, &batch)
        }
        Step::Busy(until) => Err(busy(now, until)),
        // Somebody else took it meanwhile.
        Step::Nothing | Step::Early => Ok(()),
    }
}

/// Deletes a window of which nothing is left to send, or which could not be sent for too long.
pub(crate) fn sweep(world: &dyn World, window: &Window) -> Result {
    let Some(list) = load(world, window)? else { return Ok(()) };
    let now = world.now();
    let unsent = list.unsent();
    let time = |millis| Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    let (known, end) = (later(time(list.last_sent()), KEPT), later(time(list.due), UNSENT_KEPT));
    if now < known || (unsent > 0 && now < end) {
        return enter::sweep(world, window, if now < known { known } else { later(now, LOOK) });
    }
    if unsent > 0 {
        log::warn!("rule `{}`: {unsent} events that waited for it were never sent and are forgotten", window.rule);
    }
    let events = list.waiting.iter().chain(list.batches.iter().flat_map(|batch| batch.events.iter()));
    world.delete(&events.map(|event| window.item(event)).collect::<Vec<_>>())?;
    world.delete(&[window.key()])
}

/// A window on its way to the relay.
struct Post<'a> {
    world: &'a dyn World,
    rule: &'a Rule<'a>,
    window: &'a Window,
    context: &'a Context<'a>,
}

impl Post<'_> {
    /// Sends one batch, and notes how it ended.
    fn deliver(&self, list: &List, batch: &Batch) -> Result {
        let Post { world, window, .. } = *self;
        let sent = self.send(list, batch);
        let ended = update(world, &window.key(), |before| {
            let Some(before) = before else { return Ok((None, ())) };
            let mut list: List = read(&window.key(), before)?;
            list.end(batch.number, sent.is_ok().then(|| world.now()));
            Ok((Some(serde_json::to_vec(&list)?), ()))
        });
        // What the mail came to counts first: a note that is missing is made by the next attempt.
        sent?;
        ended?;
        world.delete(&batch.events.iter().map(|event| window.item(event)).collect::<Vec<_>>())
    }

    fn send(&self, list: &List, batch: &Batch) -> Result {
        let (rule, mut answered, mut events) = (self.rule, 0, Vec::new());
        for item in items(self.world, self.window, batch)? {
            if answers::answered(self.world, rule, &item)? {
                answered += 1;
            } else {
                events.push(item.event());
            }
        }
        let count = batch.count() - answered;
        if count == 0 {
            log::info!("rule `{}`: not sent, a later event made it needless", rule.name);
            return Ok(());
        }
        let part = if batch.number == 0 { String::new() } else { format!(" #{}", batch.number) };
        let groups: Vec<&[Event]> = if rule.is_digest() { vec![&events] } else { events.chunks(1).collect() };
        let several = groups.len() > 1;
        if events.is_empty() || (!rule.is_digest() && count > events.len()) {
            log::warn!("rule `{}`: {} events were only counted, and no mail tells of them", rule.name, count - events.len());
        }
        let mut failures = Vec::new();
        for events in groups {
            let Some(event) = events.last() else { continue };
            let part = if several { format!("{part} @{:016x}", super::identity(event)) } else { part.clone() };
            let count = if rule.is_digest() { count } else { 1 };
            let about = mail::Subject { event, events, count, to: list.to.as_ref(), part: &part };
            match mail::messages(rule, &about, self.context) {
                Ok(messages) => {
                    failures.extend(messages.into_iter().filter_map(|message| self.world.send(rule.name, message).err()));
                }
                Err(failure) => failures.push(failure.context(format!("rule `{}`", rule.name))),
            }
        }
        crate::settle(failures)
    }
}

/// The events of a batch that are shown.
fn items(world: &dyn World, window: &Window, batch: &Batch) -> Result<Vec<Item>> {
    let mut bytes = 0;
    let mut items = Vec::new();
    for key in batch.events.iter().take(SHOWN_MAX).map(|event| window.item(event)) {
        let Some(value) = get(world, &key)? else { continue };
        bytes += value.len();
        if bytes > SHOWN_BYTES && !items.is_empty() {
            break;
        }
        items.push(read(&key, &value)?);
    }
    Ok(items)
}

/// When the quiet hours end that it is in now, for the last one who waits; none when it is in none.
fn until_loud(world: &dyn World, rule: &Rule<'_>, window: &Window, list: &List, now: Timestamp) -> Result<Option<Timestamp>> {
    let Some(quiet) = &rule.quiet else { return Ok(None) };
    let unsent = list.batches.iter().filter(|batch| !batch.sent).flat_map(|batch| batch.events.iter());
    let last = unsent.chain(list.waiting.iter()).take(SHOWN_MAX).last();
    let Some(key) = last.map(|event| window.item(event)) else { return Ok(None) };
    let Some(value) = get(world, &key)? else { return Ok(None) };
    let mut notes = Vec::new();
    let end = quiet.end(now, &read::<Item>(&key, &value)?.event(), &mut notes);
    crate::note(rule.name, &notes);
    Ok((end > now).then_some(end))
}

/// Publishes the timer once more, for a later time. Nothing of it has been sent, so it may have another id.
fn again(world: &dyn World, run: &Run<'_>, window: &Window, due: i64) -> Result {
    let due = Timestamp::from_millisecond(due).unwrap_or(Timestamp::MAX);
    let id = super::digest(&[run.id, &due.as_millisecond().to_string()]);
    world.publish(format!("send-{id}"), &Timer::Send(window.clone()), due)
}

fn load(world: &dyn World, window: &Window) -> Result<Option<List>> {
    let key = window.key();
    get(world, &key)?.map(|value| read(&key, &value)).transpose()
}

fn busy(now: Timestamp, until: i64) -> Failure {
    let wait = Duration::from_millis(u64::try_from(until - now.as_millisecond()).unwrap_or(0));
    retry_after("another copy of this timer is at work, or was stopped", wait)
}

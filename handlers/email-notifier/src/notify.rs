//! An event arrives: what of it leaves now, and what waits.

use jiff::Timestamp;
use weir_sdk::prelude::*;

use crate::mail::{self, Context, Subject};
use crate::recipients::Recipients;
use crate::rules::{Rule, Rules};
use crate::waiting::enter::{Entry, alone, enter, find, gather};
use crate::waiting::list::Known;
use crate::waiting::world::World;
use crate::waiting::{Window, answers, digest};
use crate::when::{Notes, When};

/// An event, and how it came here.
#[derive(Debug)]
pub(crate) struct Arrival {
    event: Event<Bytes>,
    came: Timestamp,
    attempt: u32,
    attempts_left: u32,
}

/// What becomes of a rule's mail about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It is sent.
    Send,
    /// The event waits alone, until then.
    Alone(Timestamp),
    /// The event waits with others: until then, had it been seen when it came; until then, seen now.
    Gather(Timestamp, Timestamp),
    /// The event is tried again then.
    Retry(Timestamp),
}

impl Arrival {
    /// Of an event in hand.
    pub(crate) fn new(event: Event<Bytes>, delivery: &Delivery) -> Self {
        let came = crate::server::timestamp(delivery.first_seen);
        Arrival { event, came, attempt: delivery.attempt, attempts_left: delivery.attempts_left }
    }
}

/// Does what the rules ask for. Mails leave first. What waits is written down last, when all the others went well: its timer leaves only
/// with an event that is done.
pub(crate) fn arrived(world: &dyn World, rules: &Rules<'_>, arrival: Arrival, context: &Context<'_>) -> Result {
    let now = world.now();
    let came = arrival.came.min(now);
    answers::note(world, rules, &arrival.event, came)?;
    let matching = rules.matching(&arrival.event.kind).map_err(crate::broken)?;
    if matching.is_empty() {
        log::debug!("no rule for type `{}`", arrival.event.kind);
        return Ok(());
    }
    let tries = (arrival.attempt, arrival.attempts_left);
    let event: Event = arrival.event.decode()?;
    let mut failures = Vec::new();
    let mut waiting = Vec::new();
    // Every rule has its turn, also after one that failed; what was sent is not sent again at the next attempt.
    for rule in &matching {
        let done = match turn(world, rule, &event, (came, now), tries) {
            Ok(Turn::Send) => send(world, rule, &event, context),
            Ok(Turn::Retry(at)) => Err(quiet_until(rule, now, at)),
            Ok(turn) => entries(rule, &event, came, turn).map(|entries| waiting.extend(entries)),
            Err(failure) => Err(failure),
        };
        failures.extend(done.err());
    }
    crate::settle(failures)?;
    for (entry, first) in waiting {
        match first {
            Some(first) => gather(world, entry, first, now)?,
            None => enter(world, &entry)?,
        }
    }
    Ok(())
}

fn send(world: &dyn World, rule: &Rule<'_>, event: &Event, context: &Context<'_>) -> Result {
    let messages = mail::messages(rule, &Subject::event(event), context)
        .map_err(|failure| failure.context(format!("rule `{}`", rule.name)))?;
    crate::settle(messages.into_iter().filter_map(|message| world.send(rule.name, message).err()).collect())
}

/// What a rule does about an event. The times are when it came and now, the tries its attempt and how many are left.
fn turn(
    world: &dyn World,
    rule: &Rule<'_>,
    event: &Event,
    (came, now): (Timestamp, Timestamp),
    tries: (u32, u32),
) -> Result<Turn> {
    let mut notes = Notes::new();
    let loud = |time: Timestamp, notes: &mut Notes| rule.quiet.as_ref().map_or(time, |quiet| quiet.end(time, event, notes));
    let turn = match &rule.when {
        When::Digest { window, .. } => {
            // What would end in quiet hours goes on until they do: one mail in the morning, not one for each hour of the night.
            let first = window.end(came, event, &mut notes);
            let first = loud(first, &mut notes);
            let open = if first > now { first } else { window.end(now, event, &mut notes) };
            Turn::Gather(first, loud(open, &mut notes))
        }
        When::Now => {
            let end = loud(now, &mut notes);
            // An earlier try may have written it down, and published its timer: then only that sends it.
            let known = rule.quiet.is_some() && tries.0 > 1 && find(world, &alone(rule.name, event), event)? != Known::No;
            at_once(end, now, known, tries)
        }
        When::After(_) | When::At(_) => {
            let due = rule.when.due(came, now, event, &mut notes);
            Turn::Alone(loud(due.max(now), &mut notes))
        }
    };
    notes.dedup();
    crate::note(rule.name, &notes);
    Ok(turn)
}

/// What becomes of a mail that is due at once, where nobody wants one before `end`. After the first try it may have left already, which
/// the server knows only of this event: so it is this event that comes again.
fn at_once(end: Timestamp, now: Timestamp, known: bool, (attempt, attempts_left): (u32, u32)) -> Turn {
    match (known, end > now) {
        (true, _) => Turn::Alone(end),
        (false, false) => Turn::Send,
        (false, true) if attempt > 1 && attempts_left > 0 => Turn::Retry(end),
        (false, true) => Turn::Alone(end),
    }
}

/// Where an event goes that waits; for each who gets a digest of their own.
fn entries<'e>(rule: &Rule<'_>, event: &'e Event, came: Timestamp, turn: Turn) -> Result<Vec<(Entry<'e>, Option<Timestamp>)>> {
    let said = |failure: Failure| failure.context(format!("rule `{}`", rule.name));
    if !rule.unless.is_empty() && event.subject.is_none() {
        return Err(said(reject("`unless`: the event has no subject (expected one, which the later event has too)")));
    }
    let groups = Recipients::find(rule, event).map_err(said)?;
    if groups.is_empty() {
        log::info!("rule `{}`: nobody to write to", rule.name);
        return Ok(Vec::new());
    }
    let Turn::Gather(first, due) = turn else {
        let Turn::Alone(due) = turn else { return Ok(Vec::new()) };
        return Ok(vec![(Entry { event, came, window: alone(rule.name, event), due, to: None }, None)]);
    };
    let by = match &rule.when {
        When::Digest { by: Some(path), .. } => path.text_of(event).map_err(|what| said(reject(format!("`when`: {what}"))))?,
        _ => String::new(),
    };
    let entry = |to: Recipients| {
        let slot = digest(&[rule.name, &by, &to.addresses()]);
        let window = Window { rule: rule.name.to_owned(), slot, end: due.as_millisecond() };
        (Entry { event, came, window, due, to: Some(to) }, Some(first))
    };
    Ok(groups.into_iter().map(entry).collect())
}

fn quiet_until(rule: &Rule<'_>, now: Timestamp, end: Timestamp) -> Failure {
    let wait = u64::try_from(end.as_millisecond() - now.as_millisecond()).unwrap_or(0);
    retry_after(format!("rule `{}`: quiet hours until {end}", rule.name), std::time::Duration::from_millis(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_sent_at_once_or_the_event_waits_or_comes_again() {
        let [now, end] = [1_000, 2_000].map(|time| Timestamp::from_millisecond(time).unwrap());
        for (known, end, tries, expected) in [
            (false, now, (1, 7), Turn::Send),
            (false, now, (3, 5), Turn::Send),
            (false, end, (1, 7), Turn::Alone(end)),
            (false, end, (2, 6), Turn::Retry(end)),
            (false, end, (8, 0), Turn::Alone(end)),
            (true, end, (2, 6), Turn::Alone(end)),
            (true, now, (2, 6), Turn::Alone(now)),
        ] {
            assert_eq!(at_once(end, now, known, tries), expected, "{known} {end} {tries:?}");
        }
    }
}

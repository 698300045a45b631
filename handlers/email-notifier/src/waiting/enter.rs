//! An event begins to wait: its key, its window's list, its timer, in this order (the parent module says why).

use jiff::Timestamp;
use weir_sdk::prelude::*;

use super::list::{Known, List, SHOWN_MAX};
use super::world::{World, get, update};
use super::{Item, KEPT, Timer, Window, digest, identity, read};
use crate::recipients::Recipients;
use crate::when::later;

/// An event on its way into a window.
pub(crate) struct Entry<'a> {
    /// The event.
    pub(crate) event: &'a Event,
    /// When it came.
    pub(crate) came: Timestamp,
    /// Which window.
    pub(crate) window: Window,
    /// When that is sent.
    pub(crate) due: Timestamp,
    /// To whom; none: to whom the rule says then.
    pub(crate) to: Option<Recipients>,
}

/// The window of an event that waits alone.
pub(crate) fn alone(rule: &str, event: &Event) -> Window {
    Window { rule: rule.to_owned(), slot: digest(&[rule, &event.source, &event.id]), end: 0 }
}

/// Where an event is in a window.
pub(crate) fn find(world: &dyn World, window: &Window, event: &Event) -> Result<Known> {
    let key = window.key();
    let list: Option<List> = get(world, &key)?.map(|value| read(&key, &value)).transpose()?;
    Ok(list.map_or(Known::No, |list| list.find(identity(event))))
}

/// What came of adding an event to a list.
enum Added {
    /// It waits, for this batch, which is due then; whether there is a timer for it.
    Waits { batch: u32, due: i64, armed: bool },
    /// It was taken.
    Taken,
    /// Its key has to be written first: who takes it must find it.
    Unwritten,
}

/// Takes an event into its window.
pub(crate) fn enter(world: &dyn World, entry: &Entry<'_>) -> Result {
    let (id, key) = (identity(entry.event), entry.window.key());
    let mut written = false;
    loop {
        let added = update(world, &key, |before| {
            let mut list: List = before.map_or(Ok(List::default()), |value| read(&key, value))?;
            let shown = match list.find(id) {
                Known::Taken => return Ok((None, Added::Taken)),
                // A copy that is stopped here and goes on after its digest has left writes a key that nobody reads: the sweep deletes it.
                Known::Waiting => return Ok((None, waits(&list))),
                Known::No | Known::Moved(_) => list.waiting.len() < SHOWN_MAX,
            };
            if shown && !written {
                return Ok((None, Added::Unwritten));
            }
            list.add(id);
            if list.due == 0 {
                list.due = entry.due.as_millisecond();
            }
            list.to.clone_from(&entry.to);
            Ok((Some(serde_json::to_vec(&list)?), waits(&list)))
        })?;
        match added {
            Added::Taken => return Ok(()),
            // One timer is enough for all who wait together, once it is certain.
            Added::Waits { armed: true, .. } => return Ok(()),
            Added::Waits { batch, .. } if entry.to.is_some() => {
                let id = digest(&[&entry.window.slot, &entry.window.end.to_string(), &batch.to_string(), &id.to_string()]);
                return world.publish(format!("arm-{id}"), &Timer::Arm(entry.window.clone()), world.now());
            }
            Added::Waits { batch, due, .. } => return timers(world, &entry.window, batch, due),
            Added::Unwritten => {
                world.set(&entry.window.item(id), &serde_json::to_vec(&Item::new(entry.event, entry.came))?)?;
                written = true;
            }
        }
    }
}

fn waits(list: &List) -> Added {
    Added::Waits { batch: list.next(), due: list.due, armed: list.armed.as_ref().is_some_and(|(batch, _)| *batch == list.next()) }
}

/// Publishes the timers of a window: the one that sends its batch `batch`, and the one that forgets it. Every attempt gives the same.
fn timers(world: &dyn World, window: &Window, batch: u32, due: i64) -> Result {
    let id = digest(&[&window.slot, &window.end.to_string(), &batch.to_string(), &due.to_string()]);
    let due = Timestamp::from_millisecond(due).unwrap_or(Timestamp::MAX);
    world.publish(format!("send-{id}"), &Timer::Send(window.clone()), due)?;
    sweep(world, window, later(due, KEPT))
}

/// Gives a digest its timer. `id` is that of the delivery in hand: once it stands in the list the timer is certain, since this delivery
/// comes again until it was acknowledged, and the timer has left by then. Others have nothing to do.
pub(crate) fn arm(world: &dyn World, id: &str, window: &Window) -> Result {
    let key = window.key();
    let armed = update(world, &key, |before| {
        let Some(before) = before else { return Ok((None, None)) };
        let mut list: List = read(&key, before)?;
        let next = list.next();
        match &list.armed {
            Some((batch, by)) if *batch == next && by == id => return Ok((None, Some((next, list.due)))),
            Some((batch, _)) if *batch == next => return Ok((None, None)),
            // What waited has been taken, and by whom this one was needed is not known any more.
            _ if !list.waits() => return Ok((None, Some((next, list.due)))),
            _ => list.armed = Some((next, id.to_owned())),
        }
        Ok((Some(serde_json::to_vec(&list)?), Some((next, list.due))))
    })?;
    armed.map_or(Ok(()), |(batch, due)| timers(world, window, batch, due))
}

/// Takes an event into a digest. `first` is the window of the time when it came, `open` the one of now; they differ for an event that was
/// held up until its own window was over. It then goes to the open one, and its own notes which that was, for its next attempt.
pub(crate) fn gather(world: &dyn World, entry: Entry<'_>, first: Timestamp, now: Timestamp) -> Result {
    if first > now {
        return enter(world, &Entry { window: Window { end: first.as_millisecond(), ..entry.window }, due: first, ..entry });
    }
    let own = Window { end: first.as_millisecond(), ..entry.window.clone() };
    let (id, key, open) = (identity(entry.event), own.key(), entry.due.as_millisecond());
    let end = update(world, &key, |before| {
        let mut list: List = before.map_or(Ok(List::default()), |value| read(&key, value))?;
        match list.find(id) {
            Known::Waiting | Known::Taken => return Ok((None, own.end)),
            Known::Moved(end) => return Ok((None, end)),
            Known::No => list.note_moved(id, open),
        }
        Ok((Some(serde_json::to_vec(&list)?), open))
    })?;
    if end != own.end {
        sweep(world, &own, later(now, KEPT))?;
    }
    let due = Timestamp::from_millisecond(end).unwrap_or(entry.due);
    enter(world, &Entry { window: Window { end, ..own }, due, ..entry })
}

/// Publishes the timer that deletes a window.
pub(crate) fn sweep(world: &dyn World, window: &Window, due: Timestamp) -> Result {
    let id = digest(&[&window.slot, &window.end.to_string(), &due.as_millisecond().to_string()]);
    world.publish(format!("sweep-{id}"), &Timer::Sweep(window.clone()), due)
}

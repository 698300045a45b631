//! The list of a window, as a value: what waits, what was taken as a batch, what was sent. No clock and no bucket.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::recipients::Recipients;

/// Most events of a window that are remembered one by one; further ones are only counted.
pub(crate) const EVENTS_MAX: usize = 1_000;
/// Most events whose content is kept and shown. More in one mail is not read, and rendering is paid for in fuel.
pub(crate) const SHOWN_MAX: usize = 100;
/// Most batches of a window: the second and each further one are events that were added while or after it was sent.
const BATCHES_MAX: usize = 50;

/// What is known of a window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct List {
    /// When it is to be sent, in milliseconds since 1970.
    pub(crate) due: i64,
    /// To whom; those of the last event. None: to whom the rule says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<Recipients>,
    /// Events that wait.
    #[serde(default)]
    pub(crate) waiting: Ids,
    /// How many wait beside them, which are only counted.
    #[serde(default)]
    pub(crate) beyond: u32,
    /// The batch for which a timer is on its way, and the id of the delivery that publishes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) armed: Option<(u32, String)>,
    /// What timers took.
    #[serde(default)]
    pub(crate) batches: Vec<Batch>,
    /// Events of this window that came too late, and the end of the window that took them.
    #[serde(default)]
    pub(crate) moved: Vec<(u64, i64)>,
}

/// Events of one mail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// Its number in the window, which is in the key of its mail.
    pub(crate) number: u32,
    /// Which.
    pub(crate) events: Ids,
    /// How many beside them.
    pub(crate) beyond: u32,
    /// The id of the timer that sends it, and nobody else.
    pub(crate) owner: String,
    /// Until when somebody may be at it, and then when it was sent, in milliseconds since 1970.
    pub(crate) until: i64,
    /// Whether it was sent.
    pub(crate) sent: bool,
}

/// Events, as one text of 16 hexadecimal digits each: a list is read and written for every event of a digest, and numbers in JSON would
/// cost ten times the fuel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Ids(String);

/// Where an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nowhere.
    No,
    /// It waits.
    Waiting,
    /// A timer has it, or had it.
    Taken,
    /// In the window that ends then.
    Moved(i64),
}

/// What a timer has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: what there was is sent, or another's.
    Nothing,
    /// It is too early.
    Early,
    /// A copy of it is at work, until then.
    Busy(i64),
    /// Send the batch of this number.
    Send(u32),
}

impl List {
    /// Where an event is.
    pub(crate) fn find(&self, event: u64) -> Known {
        if self.waiting.contains(event) {
            Known::Waiting
        } else if self.batches.iter().any(|batch| batch.events.contains(event)) {
            Known::Taken
        } else {
            self.moved.iter().find(|(id, _)| *id == event).map_or(Known::No, |(_, end)| Known::Moved(*end))
        }
    }

    /// Adds an event that is not known.
    pub(crate) fn add(&mut self, event: u64) {
        if self.waiting.len() < EVENTS_MAX { self.waiting.push(event) } else { self.beyond = self.beyond.saturating_add(1) }
    }

    /// Notes that an event went to a later window.
    pub(crate) fn note_moved(&mut self, event: u64, end: i64) {
        if self.moved.len() < EVENTS_MAX {
            self.moved.push((event, end));
        }
    }

    /// Whether something waits to be taken.
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty() || self.beyond > 0
    }

    /// How many were not sent.
    pub(crate) fn unsent(&self) -> usize {
        let batches = self.batches.iter().filter(|batch| !batch.sent).map(Batch::count);
        self.waiting.len() + usize::try_from(self.beyond).unwrap_or(usize::MAX) + batches.sum::<usize>()
    }

    /// The next step of the timer `owner`, which may be at it until `until`; notes it.
    pub(crate) fn step(&mut self, owner: &str, now: Timestamp, until: Timestamp) -> Step {
        let (now, until) = (now.as_millisecond(), until.as_millisecond());
        if let Some(batch) = self.own(owner) {
            if batch.until > now {
                return Step::Busy(batch.until);
            }
            batch.until = until;
            return Step::Send(batch.number);
        }
        if !self.waits() {
            return Step::Nothing;
        }
        if now < self.due {
            return Step::Early;
        }
        if self.batches.len() >= BATCHES_MAX {
            // The oldest that was sent is forgotten; where none was, what waits stays until one could be.
            let Some(oldest) = self.batches.iter().position(|batch| batch.sent) else { return Step::Nothing };
            self.batches.remove(oldest);
        }
        let number = self.next();
        let (events, beyond) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.beyond));
        self.batches.push(Batch { number, events, beyond, owner: owner.to_owned(), until, sent: false });
        Step::Send(number)
    }

    /// The number of the next batch.
    pub(crate) fn next(&self) -> u32 {
        self.batches.last().map_or(0, |batch| batch.number.saturating_add(1))
    }

    /// The batch that a timer has begun and not ended.
    pub(crate) fn own(&mut self, owner: &str) -> Option<&mut Batch> {
        self.batches.iter_mut().find(|batch| batch.owner == owner && !batch.sent)
    }

    /// Notes that nobody is at the batch `number` any more, and that it was sent, if it was.
    pub(crate) fn end(&mut self, number: u32, sent: Option<Timestamp>) {
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.number == number && !batch.sent) {
            batch.until = sent.map_or(0, Timestamp::as_millisecond);
            batch.sent = sent.is_some();
        }
    }

    /// When the last mail left, in milliseconds since 1970; before any, when it is due.
    pub(crate) fn last_sent(&self) -> i64 {
        self.batches.iter().filter(|batch| batch.sent).map(|batch| batch.until).max().unwrap_or(self.due)
    }
}

impl Ids {
    /// Digits of one.
    const DIGITS: usize = 16;

    /// Adds one.
    pub(crate) fn push(&mut self, event: u64) {
        let _ = write!(self.0, "{event:016x}");
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len() / Self::DIGITS
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, event: u64) -> bool {
        let wanted = format!("{event:016x}");
        self.0.as_bytes().chunks(Self::DIGITS).any(|id| id == wanted.as_bytes())
    }

    /// All of them, in the order in which they came.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = u64> {
        let chunks = self.0.as_bytes().chunks(Self::DIGITS);
        chunks.filter_map(|id| u64::from_str_radix(str::from_utf8(id).ok()?, 16).ok())
    }
}

impl Batch {
    /// How many events it has.
    pub(crate) fn count(&self) -> usize {
        self.events.len() + usize::try_from(self.beyond).unwrap_or(usize::MAX)
    }
}

//! Who of several handlers has a message, and what is left to do with it. Pure: no queue, no clock, no waiting.

mod ends;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

pub(super) use self::ends::{ELSEWHERE, Plan};
use super::copy;
use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::{Delivery, Depth, Position, SubscriptionDepth, Tries};

/// What is held of a queue whose window nobody told: a command that empties it, or a test.
const WINDOW: usize = 2_000;

/// All readers of a queue in this process, and what is held for them.
#[derive(Debug, Default)]
pub(super) struct Book {
    readers: BTreeMap<Arc<str>, Reader>,
    held: HashMap<Position, Message>,
    /// Held by nobody any more, and not settled below yet.
    ending: BTreeSet<Position>,
    /// For handlers that this process lacks, and not given back yet.
    elsewhere: Vec<Position>,
    /// Such handlers that were told of.
    missing: BTreeSet<String>,
    /// Numbers messages in the order in which they came.
    next: u64,
    /// What is asked of the queue below and has not come.
    asked: usize,
    /// A pull was refused since somebody was woken.
    refused: bool,
    /// Whether it was said that nothing more is taken.
    pub(super) full_said: bool,
}

/// One handler's reading.
#[derive(Debug)]
struct Reader {
    handler: Box<str>,
    window: usize,
    ordered: bool,
    /// What it can be given, in order of arrival.
    ready: BTreeMap<u64, Position>,
    /// Lapsed while it had them, and not told yet.
    lapsed: Vec<Position>,
    /// Lapsed, and not settled by it since.
    late: HashSet<Position>,
}

/// A message that is ours.
#[derive(Debug)]
struct Message {
    event: Arc<Event>,
    first_seen: Timestamp,
    /// As it says itself, being a copy.
    said: Tries,
    /// As the queue below counts.
    below: Tries,
    number: u64,
    /// For a handler that is not here.
    elsewhere: bool,
    /// A settlement of it is on its way.
    settling: bool,
    /// The failed tries that the queue below was told of last.
    noted: u32,
    shares: Vec<Share>,
}

#[derive(Debug)]
struct Share {
    reader: Arc<str>,
    state: State,
    /// The failed tries behind it if this process is killed now.
    noted: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It can be given out.
    Ready,
    /// Its handler has it.
    Out,
    /// Its copy is being published.
    Passing,
    /// Its handler is done with it.
    Ended,
}

impl Message {
    fn tries(&self) -> Tries {
        copy::sum(self.said, self.below)
    }

    fn share(&mut self, reader: &str) -> Option<&mut Share> {
        self.shares.iter_mut().find(|share| &*share.reader == reader)
    }

    fn is_over(&self) -> bool {
        !self.elsewhere && self.shares.iter().all(|share| share.state == State::Ended)
    }

    /// What the queue is to be told for the case that this process is killed, if that has changed: the most of those who still have it.
    fn note(&mut self) -> Option<Tries> {
        let open = self.shares.iter().filter(|share| share.state != State::Ended);
        let most = open.map(|share| share.noted).max()?;
        (most != self.noted).then(|| {
            self.noted = most;
            copy::rest(self.said, Tries { failed: most, ..self.tries() })
        })
    }
}

impl Book {
    /// A reader of this name, made if it is not there. A new one begins with what is in hand, as with what waits.
    pub(super) fn adopt(&mut self, name: &str, group: &str) {
        if self.readers.contains_key(name) {
            return;
        }
        let name: Arc<str> = name.into();
        let handler = name.strip_prefix(group).and_then(|rest| rest.strip_prefix('-')).unwrap_or(&name);
        let mut reader = Reader {
            handler: handler.into(),
            window: 0,
            ordered: false,
            ready: BTreeMap::new(),
            lapsed: Vec::new(),
            late: HashSet::new(),
        };
        for (position, message) in &mut self.held {
            if copy::addressee(&message.event).is_none() && !message.is_over() {
                let noted = message.tries().failed;
                message.shares.push(Share { reader: Arc::clone(&name), state: State::Ready, noted });
                reader.ready.insert(message.number, *position);
            }
        }
        self.readers.insert(name, reader);
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.readers.contains_key(name)
    }

    /// The handlers that read, for people.
    pub(super) fn handlers(&self) -> String {
        let names: Vec<String> = self.readers.values().map(|reader| format!("`{}`", reader.handler)).collect();
        names.join(", ")
    }

    /// How much a reader holds at most; what all of them together may hold is as much as the one that holds most.
    pub(super) fn set_window(&mut self, name: &str, most: usize) -> usize {
        if let Some(reader) = self.readers.get_mut(name) {
            reader.window = most;
        }
        self.window()
    }

    fn window(&self) -> usize {
        self.readers.values().map(|reader| reader.window).max().filter(|most| *most > 0).unwrap_or(WINDOW)
    }

    pub(super) fn keep_order(&mut self, name: &str) {
        if let Some(reader) = self.readers.get_mut(name) {
            reader.ordered = true;
        }
    }

    /// How many more may be asked of the queue below, of these; they are then asked for, until [`Book::asked_no_more`].
    pub(super) fn ask(&mut self, wanted: usize) -> usize {
        // Two answers at once have no order.
        if self.asked > 0 && self.readers.values().any(|reader| reader.ordered) {
            self.refused = true;
            return 0;
        }
        let room = self.window().saturating_sub(self.held.len() + self.asked).min(wanted);
        self.refused |= room == 0;
        self.asked += room;
        room
    }

    /// An answer came, or is not waited for; whether there is somebody to be woken for the room.
    pub(super) fn asked_no_more(&mut self, count: usize) -> bool {
        self.asked -= count;
        std::mem::take(&mut self.refused)
    }

    /// Says once that as much is held as may be: who holds most of it.
    pub(super) fn say_full(&mut self) -> Option<(Arc<str>, usize)> {
        if self.full_said || self.held.len() < self.window() {
            return None;
        }
        self.full_said = true;
        let mut counts: HashMap<&Arc<str>, usize> = HashMap::new();
        for share in self.held.values().flat_map(|message| &message.shares).filter(|share| share.state != State::Ended) {
            *counts.entry(&share.reader).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(name, count)| (*count, Arc::clone(name))).map(|(name, count)| (Arc::clone(name), count))
    }

    /// Takes in what a reader's pull brought, for all whom it is for: whether a reader has lost something, and whether others have
    /// something now.
    pub(super) fn take_in(&mut self, came: Vec<Delivery>) -> (bool, bool) {
        let mut lapsed = false;
        for delivery in came {
            let position = delivery.position;
            if self.held.get(&position).is_some_and(|message| message.settling) {
                // It was given back, and comes again before that was answered.
                self.held.remove(&position);
                self.ending.remove(&position);
            }
            // Otherwise it comes again while it is ours only when it has lapsed, and that is on its way to us.
            lapsed |= self.lapse(&[position]);
            let to = copy::addressee(&delivery.event);
            let takes = |reader: &Reader| to.is_none_or(|to| to == &*reader.handler);
            let takers: Vec<Arc<str>> =
                self.readers.iter().filter(|(_, reader)| takes(reader)).map(|(name, _)| Arc::clone(name)).collect();
            let elsewhere = takers.is_empty() && to.is_some();
            let number = self.next;
            self.next += 1;
            let said = copy::tries(&delivery.event);
            let noted = copy::sum(said, delivery.tries).failed;
            for taker in &takers {
                if let Some(reader) = self.readers.get_mut(taker) {
                    reader.ready.insert(number, position);
                    reader.late.remove(&position);
                }
            }
            let shares: Vec<Share> = takers.into_iter().map(|reader| Share { reader, state: State::Ready, noted }).collect();
            if elsewhere {
                self.elsewhere.push(position);
            } else if shares.is_empty() {
                // The last reader was removed while its pull was answered.
                self.ending.insert(position);
            }
            let Delivery { event, tries: below, first_seen, .. } = delivery;
            let message = Message { event, first_seen, said, below, number, elsewhere, settling: false, noted, shares };
            self.held.insert(position, message);
        }
        (lapsed, self.readers.len() > 1)
    }

    /// What a reader gets now.
    pub(super) fn hand_out(&mut self, name: &str, max: usize) -> Vec<Delivery> {
        let Some(reader) = self.readers.get_mut(name) else { return Vec::new() };
        let mut out = Vec::new();
        while out.len() < max
            && let Some((_, position)) = reader.ready.pop_first()
        {
            let Some(message) = self.held.get_mut(&position) else { continue };
            let (tries, first_seen, event) = (message.tries(), message.first_seen, Arc::clone(&message.event));
            if let Some(share) = message.share(name) {
                share.state = State::Out;
                out.push(Delivery { event, position, tries, first_seen });
            }
        }
        out
    }

    /// Whether a reader has it in hand.
    pub(super) fn has(&mut self, name: &str, position: Position) -> bool {
        let share = self.held.get_mut(&position).and_then(|message| message.share(name));
        share.is_some_and(|share| share.state != State::Ready)
    }

    /// A try begins, or something else is known of it: what the queue below is to be told.
    pub(super) fn note(&mut self, name: &str, position: Position, tries: Tries) -> Option<Tries> {
        let message = self.held.get_mut(&position)?;
        let is_one = message.shares.len() == 1;
        let said = message.said;
        message.share(name)?.noted = tries.failed;
        if is_one {
            message.noted = tries.failed;
            return Some(copy::rest(said, tries));
        }
        message.note()
    }

    /// Lets go of what is no longer ours; whether a reader has to be told.
    pub(super) fn lapse(&mut self, gone: &[Position]) -> bool {
        let mut told = false;
        for position in gone {
            let Some(message) = self.held.remove(position) else { continue };
            let was_ending = self.ending.remove(position);
            for share in message.shares {
                let Some(reader) = self.readers.get_mut(&share.reader) else { continue };
                match share.state {
                    State::Ready => drop(reader.ready.remove(&message.number)),
                    State::Out | State::Passing => {
                        reader.lapsed.push(*position);
                        reader.late.insert(*position);
                        told = true;
                    }
                    // Whoever ended it last is still settling it.
                    State::Ended if was_ending => drop(reader.late.insert(*position)),
                    State::Ended => {}
                }
            }
        }
        told
    }

    pub(super) fn take_lapsed(&mut self, name: &str) -> Vec<Position> {
        self.readers.get_mut(name).map(|reader| std::mem::take(&mut reader.lapsed)).unwrap_or_default()
    }

    /// What waits, by what the queue below says of itself.
    pub(super) fn depth(&self, below: Depth) -> Depth {
        let own = below.subscriptions.into_iter().next().unwrap_or_default();
        let (events, held) = (own.events.or(below.events), self.held.len() as u64);
        let subscriptions = self.readers.keys().map(|name| {
            let count = |wanted: State| {
                let shares = self.held.values().flat_map(|message| &message.shares);
                shares.filter(|share| share.reader == *name && share.state == wanted).count() as u64
            };
            let theirs = self.held.values().filter(|message| message.shares.iter().all(|share| share.reader != *name)).count();
            let ended = count(State::Ended) + theirs as u64;
            let out = count(State::Out) + count(State::Passing);
            SubscriptionDepth {
                name: name.to_string(),
                events: events.map(|events| events.saturating_sub(ended)),
                oldest: own.oldest,
                // Of what other processes hold it is only known that each of their handlers may have it.
                in_flight: own.in_flight.map(|in_flight| in_flight.saturating_sub(held) + out),
                partitions: Vec::new(),
            }
        });
        Depth { events: below.events, bytes: below.bytes, subscriptions: subscriptions.collect() }
    }
}

//! A place of dead letters (delivery.md §7): the store, or the broker of a queue that can list, show and drop them by id.
//!
//! The order of dead letters is that of [`DeadCursor`], newest first, in every place: so lists of several places can be merged, and a
//! list can be gone on with. Nothing here decides what is a dead letter.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::DeadLetter;
use crate::clock::Timestamp;
use crate::queue::BoxFuture;
use crate::store::StoreError;

/// How long dead letters are kept: the default of `dead-keep` (surface.md §1).
pub const DEAD_KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most bytes of dead letters of one queue: the default of `dead-max` (surface.md §1).
pub const DEAD_BYTES_MAX: u64 = 1 << 30;
/// A dead letter larger than this loses log and backtrace, never the event: four of the largest events by default.
pub const DEAD_LETTER_BYTES_MAX: usize = 4 << 20;
/// Most dead letters of one page, unless asked for fewer: a page for people, and a bound on the answer's memory.
pub const DEAD_LIST_MAX: usize = 1_000;
/// Most bytes of dead letters of one page; the same bound for letters that hold large events.
pub const DEAD_LIST_BYTES_MAX: usize = 64 << 20;

/// Where dead letters can be kept, listed, shown and dropped by id. All methods may be called concurrently; dropping a future leaves
/// open whether what it was to change has changed.
///
/// A place is bounded by a [`DeadBounds`] for each queue and drops the oldest beyond it, counted in [`DeadCount::dropped`].
pub trait DeadLetters: Send + Sync + 'static {
    /// Keeps letters, each under its id: the same id replaces what stood there, so repeating the call after an error is harmless. Once
    /// it answers they are as durable as the place ever makes anything. [`super::json::stored`] is the form that fits.
    ///
    /// # Errors
    /// When not all of them are kept; some may be.
    fn put<'a>(&'a self, letters: &'a [&'a DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The letter with this id.
    ///
    /// # Errors
    /// When the place can't be read, or the letter can't ([`StoreError::Damaged`]).
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<DeadLetter>, StoreError>>;

    /// One page of the letters that match, newest first. What does not match is not loaded; one letter that can't be read is told in
    /// [`DeadPage::unreadable`] and hides no other.
    ///
    /// # Errors
    /// When the place can't be read.
    fn list(&self, filter: DeadFilter) -> BoxFuture<'_, Result<DeadPage, StoreError>>;

    /// Removes the letter with this id, readable or not; whether there was one. Durable once it answers.
    ///
    /// # Errors
    /// When it could not be removed.
    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Removes those of a queue's letters that have one of these ids and were left by a process that was killed before it settled: their
    /// events have ended otherwise. Most of the ids name none: a place answers that cheaply. Durable once it answers.
    ///
    /// # Errors
    /// When not all of them could be removed.
    fn forget<'a>(&'a self, queue: &'a str, ids: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = queue;
        Box::pin(async move {
            for id in ids {
                self.remove(id).await?;
            }
            Ok(())
        })
    }

    /// How many letters each queue has here. Cheap enough for every scrape. What is not told is not known.
    ///
    /// # Errors
    /// When the place can't be asked.
    fn counts(&self) -> BoxFuture<'_, Result<DeadCounts, StoreError>> {
        Box::pin(async { Ok(DeadCounts::default()) })
    }
}

/// How much is kept of one queue's dead letters. The newest is kept whatever its size: no event is lost by being large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadBounds {
    /// How long: `dead-keep`.
    pub keep: Duration,
    /// How many bytes: `dead-max`.
    pub bytes: u64,
}

impl Default for DeadBounds {
    fn default() -> Self {
        Self { keep: DEAD_KEEP, bytes: DEAD_BYTES_MAX }
    }
}

/// Dead letters of a place, by queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadCounts {
    /// By queue.
    pub queues: BTreeMap<String, DeadCount>,
}

/// Dead letters of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadCount {
    /// Held now.
    pub held: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Gone because they were too old or too many: since this process started, or on a broker since the place was made.
    pub dropped: u64,
}

/// Where a dead letter stands in the order of all: by when it was given up, then by id. Written as `MILLISECONDS-ID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadCursor {
    /// When it was given up.
    pub dead_at: Timestamp,
    /// Its id.
    pub id: String,
}

impl fmt::Display for DeadCursor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}-{}", self.dead_at.0, self.id)
    }
}

impl FromStr for DeadCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (at, id) = text.split_once('-').unwrap_or((text, ""));
        let at =
            at.parse().map_err(|_| "is no place in a list of dead letters (expected what the page before said)".to_owned())?;
        Ok(Self { dead_at: Timestamp(at), id: id.to_owned() })
    }
}

/// Which dead letters to list. All that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct DeadFilter {
    /// Of this handler.
    pub handler: Option<String>,
    /// Of this queue.
    pub queue: Option<String>,
    /// Its outcome has exactly this name, or its reason contains this text.
    pub reason: Option<String>,
    /// Given up before this.
    pub older_than: Option<Timestamp>,
    /// What comes after this in the list: [`DeadPage::next`] of the page before.
    pub before: Option<DeadCursor>,
    /// At most so many in one page; none: [`DEAD_LIST_MAX`].
    pub max: Option<usize>,
}

impl DeadFilter {
    /// Most letters of this page.
    #[must_use]
    pub fn page(&self) -> usize {
        self.max.unwrap_or(DEAD_LIST_MAX).min(DEAD_LIST_MAX)
    }

    /// The list begins after this place.
    #[must_use]
    pub fn end(&self) -> DeadCursor {
        let older = DeadCursor { dead_at: self.older_than.unwrap_or(Timestamp(u64::MAX)), id: String::new() };
        match &self.before {
            Some(before) if *before < older => before.clone(),
            _ => older,
        }
    }

    /// Whether a letter of this queue and handler is meant.
    #[must_use]
    pub fn is_of(&self, queue: &str, handler: &str) -> bool {
        let meant = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        meant(&self.queue, queue) && meant(&self.handler, handler)
    }

    /// Whether a letter with this outcome and reason is meant.
    #[must_use]
    pub fn is_because(&self, outcome: Option<&str>, reason: &str) -> bool {
        self.reason.as_deref().is_none_or(|wanted| outcome == Some(wanted) || reason.contains(wanted))
    }
}

/// One page of a list of dead letters.
#[derive(Debug, Default)]
pub struct DeadPage {
    /// Those that match, newest first.
    pub letters: Vec<DeadLetter>,
    /// Those that may match and can't be read, newest first.
    pub unreadable: Vec<Unreadable>,
    /// Places that can't be asked now, and why: what they hold is not in this list.
    pub missing: Vec<String>,
    /// Where to go on, as [`DeadFilter::before`]; none: this was all. A page that says it may hold fewer than asked for, even none.
    pub next: Option<DeadCursor>,
}

/// A dead letter that can't be read: it can only be dropped, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id.
    pub id: String,
    /// Its queue.
    pub queue: String,
    /// When it was given up.
    pub dead_at: Timestamp,
    /// What is wrong with it.
    pub reason: String,
}

impl DeadPage {
    /// One page of pages of the same filter from several places. Each letter of each place comes in exactly one page.
    #[must_use]
    pub fn merge(pages: Vec<Self>, max: usize) -> Self {
        // Where one place has not been looked at, the others must not go ahead of it.
        let looked_at = pages.iter().filter_map(|page| page.next.clone()).max();
        let mut whole = Self { next: looked_at.clone(), ..Self::default() };
        for page in pages {
            whole.letters.extend(page.letters);
            whole.unreadable.extend(page.unreadable);
            whole.missing.extend(page.missing);
        }
        if let Some(looked_at) = looked_at {
            whole.letters.retain(|letter| place(letter) >= looked_at);
            whole.unreadable.retain(|one| one.place() >= looked_at);
        }
        whole.letters.sort_by_cached_key(|letter| Reverse(place(letter)));
        whole.unreadable.sort_by_cached_key(|one| Reverse(one.place()));
        // Two queues may be one stream on a broker, and its letters come from both.
        whole.letters.dedup_by(|one, other| one.id == other.id && one.dead_at == other.dead_at);
        whole.unreadable.dedup();
        whole.cut(max);
        whole
    }

    fn cut(&mut self, max: usize) {
        if self.letters.len() <= max {
            return;
        }
        self.letters.truncate(max);
        if let Some(last) = self.letters.last().map(place) {
            self.unreadable.retain(|one| one.place() >= last);
            self.next = Some(last);
        }
    }
}

impl Unreadable {
    fn place(&self) -> DeadCursor {
        DeadCursor { dead_at: self.dead_at, id: self.id.clone() }
    }
}

fn place(letter: &DeadLetter) -> DeadCursor {
    DeadCursor { dead_at: letter.dead_at, id: letter.id.clone() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::Event;

    fn letter(at: u64, id: &str) -> DeadLetter {
        DeadLetter {
            id: id.to_owned(),
            handler: "mailer".to_owned(),
            queue: "events".to_owned(),
            reason: "because".to_owned(),
            outcome: Some("trap"),
            limit: None,
            attempts: 2,
            first_at: Timestamp(0),
            dead_at: Timestamp(at),
            version: None,
            event: Arc::new(Event::default()),
            log: String::new(),
            backtrace: Vec::new(),
        }
    }

    fn cursor(at: u64, id: &str) -> DeadCursor {
        DeadCursor { dead_at: Timestamp(at), id: id.to_owned() }
    }

    fn page(letters: &[(u64, &str)], next: Option<DeadCursor>) -> DeadPage {
        DeadPage { letters: letters.iter().map(|(at, id)| letter(*at, id)).collect(), next, ..DeadPage::default() }
    }

    fn ids(page: &DeadPage) -> Vec<&str> {
        page.letters.iter().map(|letter| letter.id.as_str()).collect()
    }

    #[test]
    fn a_reason_is_an_outcome_or_a_text_in_the_reason() {
        let filter = |reason: &str| DeadFilter { reason: Some(reason.to_owned()), ..DeadFilter::default() };
        assert!(filter("fuel").is_because(Some("fuel"), "used up"));
        assert!(filter("used").is_because(Some("fuel"), "used up"));
        assert!(!filter("fue").is_because(Some("fuel"), "used up"));
        assert!(!filter("fuel").is_because(None, "used up"));
        assert!(DeadFilter::default().is_because(None, ""));
    }

    #[test]
    fn a_cursor_reads_back() {
        let before = cursor(1_700, "00-ff");
        assert_eq!(before.to_string().parse(), Ok(before));
        assert!("x".parse::<DeadCursor>().is_err());
        let filter = DeadFilter { older_than: Some(Timestamp(5)), before: Some(cursor(5, "a")), ..DeadFilter::default() };
        assert_eq!(filter.end(), cursor(5, ""), "the narrower of the two");
        assert_eq!(DeadFilter { before: Some(cursor(4, "a")), ..filter }.end(), cursor(4, "a"));
    }

    #[test]
    fn pages_of_several_places_are_one_list() {
        let both = DeadPage::merge(vec![page(&[(9, "a"), (5, "b")], None), page(&[(7, "c"), (5, "d")], None)], 10);
        assert_eq!((ids(&both), both.next.clone()), (vec!["a", "c", "d", "b"], None));
        let cut = DeadPage::merge(vec![page(&[(9, "a"), (5, "b")], None), page(&[(7, "c")], None)], 2);
        assert_eq!((ids(&cut), cut.next.clone()), (vec!["a", "c"], Some(cursor(7, "c"))));
    }

    #[test]
    fn a_place_that_has_more_holds_the_others_back() {
        let pages = vec![page(&[(9, "a"), (8, "b")], Some(cursor(8, "b"))), page(&[(8, "c"), (7, "d"), (1, "e")], None)];
        let merged = DeadPage::merge(pages, 10);
        assert_eq!((ids(&merged), merged.next.clone()), (vec!["a", "c", "b"], Some(cursor(8, "b"))));
    }
}

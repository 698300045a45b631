//! What must hold of the ledger, and what is counted of it.

use std::fmt;

use crate::broker::Standing;
use crate::chance::{Way, way};
use crate::cluster::History;
use crate::ledger::{End, Ledger, Run, Verdict, micros};
use crate::plan::{ATTEMPTS, ATTEMPTS_TRAP, LEASE, Plan};

/// How long after its run an event may stay unsettled while its server is there: the rest of a batch, and a busy machine.
const SETTLED: u64 = 2_000_000;

/// How long before a kill what is held for its order may not be noted yet, on a busy machine.
const NOTED: u64 = 200_000;

/// See the module.
pub(crate) struct Audit<'a> {
    plan: &'a Plan,
    history: &'a History,
    standing: &'a Standing,
    ledger: Ledger,
}

/// What happened, for people.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    runs: usize,
    acked: usize,
    dead: usize,
    lost: usize,
    /// Runs that ended with their process, and that were stopped for their lease.
    killed: usize,
    lapsed: usize,
    /// Tries that were counted without a run that began: events in the hands of a process that was killed.
    not_begun: usize,
    /// Events that ran again after they had ended, because their process was killed before it was settled.
    again: usize,
    /// Runs that were drawn to end otherwise than by their deadline.
    slow: usize,
    /// Events whose end follows from the seed alone, and was that.
    drawn: usize,
    kills: usize,
    scrapes: u64,
}

impl<'a> Audit<'a> {
    pub(crate) fn new(plan: &'a Plan, history: &'a History, standing: &'a Standing) -> Self {
        let ledger = Ledger::new(plan.count(), &history.lives);
        Self { plan, history, standing, ledger }
    }

    /// Asserts it all.
    pub(crate) fn check(&self) -> Figures {
        assert!(self.standing.left.is_empty(), "everything has ended, and yet there is {:?}", self.standing.left);
        let kills = self.history.lives.iter().filter(|life| life.killed.is_some()).count();
        assert_eq!(kills, self.plan.kills());
        let mut figures = Figures { kills, scrapes: self.history.scrapes, ..Figures::default() };
        for (event, runs) in self.ledger.runs.iter().enumerate() {
            self.check_ways(event, runs, &mut figures);
            for pair in runs.windows(2) {
                if let [one, next] = pair {
                    self.check_pair(event, one, next, &mut figures);
                }
            }
            self.check_end(event, runs, &mut figures);
        }
        if self.plan.ordered {
            self.check_order();
        }
        figures
    }

    /// Each run ended in the way that it was drawn to.
    fn check_ways(&self, event: usize, runs: &[Run], figures: &mut Figures) {
        for run in runs {
            figures.runs += 1;
            let drawn = format!("{:?}", way(&event.to_string(), run.attempt, self.plan.seed)).to_lowercase();
            assert!(run.way.is_none() || run.way.as_ref() == Some(&drawn), "event {event}, drawn {drawn}: {run:?}");
            match &run.end {
                End::Killed => figures.killed += 1,
                End::Lapsed => figures.lapsed += 1,
                End::Judged { outcome, .. } => {
                    let done_or_host = ["done", "host"];
                    let publishes = done_or_host.contains(&drawn.as_str()) && done_or_host.contains(&outcome.as_str());
                    let slow = outcome == "deadline" && drawn != "deadline";
                    figures.slow += usize::from(slow);
                    assert!(*outcome == drawn || publishes || slow, "event {event}, drawn {drawn}: {run:?}");
                }
            }
        }
    }

    /// No two runs at the same time; each follows from the one before.
    fn check_pair(&self, event: usize, one: &Run, next: &Run, figures: &mut Figures) {
        assert!(one.ended <= next.begun, "event {event} ran twice at the same time: {one:?} {next:?}");
        // Held here for its order, it is noted beside its runs how far it got: the last notes may be lost to a kill.
        let killed = self.history.lives[one.life].killed.filter(|_| self.plan.ordered && one.life != next.life);
        let lost_notes = if killed.is_some_and(|killed| one.begun + NOTED >= micros(killed)) { 2 } else { 0 };
        let tries = match &one.end {
            // Nobody knows how it ended, or whether what it ended as was settled.
            End::Killed => 1,
            End::Lapsed => 0,
            End::Judged { verdict: Verdict::Again, .. } => u32::from(!one.is_outside()),
            End::Judged { .. } => {
                figures.again += 1;
                let (killed, away) = self.excuses(one);
                let lapsed = self.ledger.lapses[one.life].iter().any(|at| one.begun <= *at && *at <= next.begun);
                assert!(killed || away || lapsed, "event {event} ran again after it had ended: {one:?} {next:?}");
                // What could not be settled in time comes back without a try.
                u32::from(!away && !lapsed)
            }
        };
        let due = one.attempt + tries;
        assert!(next.attempt + lost_notes >= due, "event {event}: a try was not counted: {one:?} {next:?}");
        figures.not_begun += next.attempt.saturating_sub(due) as usize;
    }

    /// Whether its process was killed, and whether the server was away, before it can have been settled.
    fn excuses(&self, run: &Run) -> (bool, bool) {
        let since = |time| run.ended + SETTLED >= micros(time);
        let away = |(from, to): &(_, _)| since(*from) && run.ended <= micros(*to) + LEASE * 1_000;
        (self.history.lives[run.life].killed.is_some_and(since), self.history.outages.iter().any(away))
    }

    /// It ended acked, or dead-lettered; as the seed says, where nobody was killed over it.
    fn check_end(&self, event: usize, runs: &[Run], figures: &mut Figures) {
        let letter = self.standing.dead.get(&event);
        let published = self.standing.results.get(&event).map_or(0, std::collections::BTreeSet::len);
        let done = |run: &&Run| matches!(&run.end, End::Judged { verdict: Verdict::Acked, .. });
        assert!(published <= 1, "event {event} was published about as {published} different events");
        assert!(runs.iter().find(done).is_none() || published == 1, "event {event} is done, and nothing was published: {runs:?}");
        let given_up = self.ledger.given_up[event];
        match (letter, runs.last().map(|run| &run.end)) {
            (None, Some(End::Judged { verdict: Verdict::Acked, .. })) => figures.acked += 1,
            (Some(_), Some(End::Judged { verdict: Verdict::Acked, .. })) if !given_up => {
                panic!("event {event} was acked in the end, and its dead letter stands: {runs:?}")
            }
            (Some(letter), _) if given_up => {
                assert_eq!(letter["outcome"], "lost", "event {event}: {letter}");
                (figures.lost, figures.dead) = (figures.lost + 1, figures.dead + 1);
            }
            (Some(letter), Some(End::Judged { outcome, verdict: Verdict::Dead })) => {
                assert_eq!(letter["outcome"], outcome.as_str(), "event {event}: {letter} {runs:?}");
                figures.dead += 1;
            }
            // It ended before its process was killed, and was settled when that had not been read yet.
            (letter, end) => panic!("event {event} is lost: {end:?}, dead letter {letter:?}, runs {runs:?}"),
        }
        if let Some(dies) = self.fate(event, runs).filter(|_| !given_up) {
            figures.drawn += 1;
            assert_eq!(dies, letter.is_some(), "event {event} ended otherwise than it was drawn to: {runs:?}");
        }
    }

    /// Whether it dies, when that follows from the seed alone: each try was a run, and ended in the way it was drawn to.
    fn fate(&self, event: usize, runs: &[Run]) -> Option<bool> {
        let undisturbed = |run: &Run| {
            let slow = |outcome: &str| outcome == "deadline" && run.way.as_deref() != Some("deadline");
            matches!(&run.end, End::Judged { outcome, .. } if !slow(outcome))
        };
        let follows = |one: &Run, next: &Run| next.attempt == one.attempt + u32::from(!one.is_outside());
        let all_ran = runs.first()?.attempt == 1 && runs.windows(2).all(|pair| follows(&pair[0], &pair[1]));
        let repeated = runs.len() > runs.iter().position(|run| run.is_over()).map_or(0, |at| at + 1);
        if repeated || !runs.iter().all(undisturbed) || !all_ran {
            return None;
        }
        let drawn = (1..=ATTEMPTS).find_map(|attempt| match way(&event.to_string(), attempt, self.plan.seed) {
            Way::Done | Way::Host => Some(false),
            Way::Reject => Some(true),
            Way::Retry | Way::Deadline => (attempt >= ATTEMPTS).then_some(true),
            Way::Trap | Way::Fuel | Way::Memory | Way::Output => (attempt >= ATTEMPTS_TRAP).then_some(true),
        });
        Some(drawn.unwrap_or(true))
    }

    /// Of each key, no event began before the one before it had ended, in any process; and those of one process began in order.
    fn check_order(&self) {
        let mut lanes: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
        for (event, key) in self.plan.keys.iter().enumerate() {
            lanes.entry(*key).or_default().push(event);
        }
        for pair in lanes.values().flat_map(|lane| lane.windows(2)) {
            let &[one, next] = pair else { continue };
            let (before, after) = (&self.ledger.runs[one], &self.ledger.runs[next]);
            let over = before.iter().find(|run| run.is_over());
            let Some(first) = after.first() else { continue };
            match over {
                Some(over) => {
                    assert!(over.ended <= first.begun, "{next} began before {one} of its key had ended: {before:?} {after:?}");
                }
                None => assert!(self.ledger.given_up[one], "{next} began, and {one} never ended: {before:?} {after:?}"),
            }
            for life in 0..self.history.lives.len() {
                let of_life = |runs: &[Run]| -> Vec<(u64, u64)> {
                    runs.iter().filter(|run| run.life == life).map(|run| (run.begun, run.ended)).collect()
                };
                let (before, after) = (of_life(before), of_life(after));
                if let (Some(last), Some(first)) = (before.last(), after.first()) {
                    assert!(last.1 <= first.0, "{next} ran before {one} of its key in the same process: {before:?} {after:?}");
                }
            }
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { runs, acked, dead, lost, killed, lapsed, not_begun, again, slow, drawn, kills, scrapes } = self;
        write!(f, "{acked} acked, {dead} dead ({lost} of them lost); {runs} runs, {killed} ended by {kills} kills, ")?;
        write!(
            f,
            "{lapsed} stopped, {again} repeated, {slow} slow; {not_begun} tries not begun; {drawn} ends drawn, {scrapes} scrapes"
        )
    }
}

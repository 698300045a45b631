//! The ledger: every run of every event, by what the processes wrote to their stderr. Weir says when a run begins and how it ends, the
//! guest says which way it was drawn to end; a run whose process was killed ends there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// One process from start to end.
pub(crate) struct Life {
    pub(crate) log: String,
    /// Just before it was killed; none: it was stopped when everything had ended.
    pub(crate) killed: Option<SystemTime>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// `outcome`, and what became of the event: `acknowledged`, `dead-lettered`, `tried again`.
    Judged { outcome: String, verdict: Verdict },
    /// Its lease was gone, and it was stopped.
    Lapsed,
    /// With its process.
    Killed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Acked,
    Dead,
    Again,
}

/// One run of an event. Times are microseconds of the machine's clock.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The process, by its place among the lives.
    pub(crate) life: usize,
    pub(crate) attempt: u32,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) end: End,
    /// What the guest said; none: it did not get to it, or was not heard.
    pub(crate) way: Option<String>,
}

impl Run {
    /// Whether it failed from outside, which costs no try.
    pub(crate) fn is_outside(&self) -> bool {
        matches!(&self.end, End::Judged { outcome, .. } if outcome == "host")
    }

    /// Whether its event was to end with it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(&self.end, End::Judged { verdict: Verdict::Acked | Verdict::Dead, .. })
    }
}

/// All of it.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Runs by event, in the order in which they began.
    pub(crate) runs: Vec<Vec<Run>>,
    /// Events that were dead-lettered without a run.
    pub(crate) given_up: Vec<bool>,
    /// When each process said that it had lost leases: on a busy machine they can't all be renewed in time.
    pub(crate) lapses: Vec<Vec<u64>>,
}

impl Ledger {
    /// Reads what all processes wrote.
    pub(crate) fn new(events: usize, lives: &[Life]) -> Self {
        let mut ledger = Self { runs: vec![Vec::new(); events], given_up: vec![false; events], lapses: Vec::new() };
        for (life, written) in lives.iter().enumerate() {
            for line in written.log.lines().filter(|line| line.contains("\"event\":")) {
                match serde_json::from_str::<Value>(line) {
                    Ok(line) => ledger.read(life, &line),
                    // The last line of a killed process may be cut.
                    Err(error) => assert!(written.killed.is_some(), "a line is no JSON: {error}: {line}"),
                }
            }
            let lapses = written.log.lines().filter(|line| line.contains("leases could not be kept"));
            let lapses = lapses.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            ledger.lapses.push(lapses.map(|line| micros_of(line["timestamp"].as_str().unwrap())).collect());
            ledger.close(life, written.killed);
        }
        for runs in &mut ledger.runs {
            runs.sort_by_key(|run| run.begun);
        }
        ledger
    }

    fn read(&mut self, life: usize, line: &Value) {
        let text = |name: &str| line[name].as_str().unwrap_or_default();
        let event: usize = text("event").parse().unwrap();
        let attempt = u32::try_from(line["attempt"].as_u64().unwrap()).unwrap();
        let at = micros_of(text("timestamp"));
        let runs = &mut self.runs[event];
        if text("message") == "event runs" {
            // Until something ends it, the time of a run that never does.
            runs.push(Run { life, attempt, begun: at, ended: u64::MAX, end: End::Killed, way: None });
            return;
        }
        let open = runs.iter_mut().rev().find(|run| run.life == life && run.attempt == attempt && run.ended == u64::MAX);
        let judged = |verdict| End::Judged { outcome: text("outcome").to_owned(), verdict };
        let end = match text("message") {
            "event acknowledged" => judged(Verdict::Acked),
            "event dead-lettered" => judged(Verdict::Dead),
            "event will be tried again" => judged(Verdict::Again),
            "event stopped: its lease is gone" => End::Lapsed,
            "event dead-lettered without being run" => {
                self.given_up[event] = true;
                return;
            }
            said => {
                if let (Some(way), Some(run)) = (said.strip_prefix("way="), open) {
                    run.way = Some(way.to_lowercase());
                }
                return;
            }
        };
        let open = open.unwrap_or_else(|| panic!("a run ended that never began: {line}"));
        (open.end, open.ended) = (end, at);
    }

    /// A life is over: what still runs ends with it.
    fn close(&mut self, life: usize, killed: Option<SystemTime>) {
        for run in self.runs.iter_mut().flatten().filter(|run| run.life == life && run.ended == u64::MAX) {
            let killed = killed.unwrap_or_else(|| panic!("a run of a process that stopped in order did not end: {run:?}"));
            run.ended = micros(killed).max(run.begun);
        }
    }
}

/// Microseconds since 1970.
pub(crate) fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap()
}

/// Microseconds since 1970 of a time as `2026-11-21T13:18:29.123456Z`.
fn micros_of(text: &str) -> u64 {
    let number = |from: usize, to: usize| text[from..to].parse::<u64>().unwrap();
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // Days of a calendar whose year begins in March, so that the leap day is its last.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = (days * 24 + number(11, 13)) * 3_600 + number(14, 16) * 60 + number(17, 19);
    seconds * 1_000_000 + number(20, 26)
}

#[test]
fn times_are_read() {
    assert_eq!(micros_of("1970-01-01T00:00:00.000001Z"), 1);
    assert_eq!(micros_of("2024-02-29T12:34:56.789012Z"), 1_709_210_096_789_012);
    assert_eq!(micros_of("2026-11-21T13:18:29.000000Z"), 1_795_267_109_000_000);
}

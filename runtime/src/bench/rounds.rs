//! Rows measured round by round, one after the other in each, so that what else the machine does hits all of them alike.

use std::num::NonZeroUsize;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::sandbox;

/// Rounds of each row.
const ROUNDS: usize = 7;

/// One row.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Row {
    /// What was run.
    pub name: &'static str,
    /// CPU microseconds per event, user and system, of the whole process: the median of the rounds.
    pub cpu_us: f64,
    /// `cpu_us` as a multiple of the row `tuned`.
    pub ratio: f64,
    /// Events a second by the clock on the wall: the median of the rounds.
    pub events_per_second: f64,
}

pub(super) type Step<'a> = Box<dyn Fn() -> anyhow::Result<()> + 'a>;

/// How a row is measured.
pub(super) struct Timed<'a> {
    pub(super) name: &'static str,
    pub(super) events: u64,
    /// What is not measured.
    pub(super) prepare: Option<Step<'a>>,
    pub(super) run: Step<'a>,
}

pub(super) fn rows_in_rounds(timed: &[Timed<'_>]) -> anyhow::Result<Vec<Row>> {
    let mut measured = vec![Vec::with_capacity(ROUNDS); timed.len()];
    for round in 0..=ROUNDS {
        for (row, measured) in timed.iter().zip(&mut measured) {
            row.prepare.as_ref().map_or(Ok(()), |prepare| prepare())?;
            let (cpu, wall) = (cpu_time(), std::time::Instant::now());
            (row.run)()?;
            // The first round fills caches and files.
            if round > 0 {
                #[expect(clippy::cast_precision_loss, reason = "a count of events needs no more than 52 bits")]
                let per = row.events as f64;
                measured.push(((cpu_time() - cpu).as_secs_f64() / per, wall.elapsed().as_secs_f64() / per));
            }
        }
    }
    let cost = |measured: &[(f64, f64)]| median(measured.iter().map(|(cpu, _)| cpu * 1e6));
    let tuned = measured.get(1).map_or(f64::NAN, |measured| cost(measured));
    let row = |(timed, measured): (&Timed<'_>, &Vec<(f64, f64)>)| {
        let cpu_us = cost(measured);
        let events_per_second = 1.0 / median(measured.iter().map(|(_, wall)| *wall));
        Row { name: timed.name, cpu_us, ratio: cpu_us / tuned, events_per_second }
    };
    Ok(timed.iter().zip(&measured).map(row).collect())
}

/// Busy time of all cores of this machine since it started, whoever took it; the kernel counts it in hundredths of a second.
pub(super) fn machine_time() -> Duration {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8).map(|ticks| ticks.parse::<u64>().unwrap_or(0));
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy = ticks.enumerate().filter(|(column, _)| ![3, 4].contains(column)).map(|(_, ticks)| ticks).sum::<u64>();
    Duration::from_millis(busy.saturating_mul(10))
}

/// User and system time of all threads.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Cores that this process may use.
pub(super) fn cores() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    f64::from(u32::try_from(cores).unwrap_or(u32::MAX))
}

/// The machine, in one line: cores, and whether the kernel reports written pages.
#[must_use]
pub fn machine() -> String {
    let cores = cores();
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map_or("?", |(_, model)| model.trim());
    let scan = if sandbox::engine::scan_available() { "used" } else { "not available" };
    format!("{cores} cores, {model}, page scan {scan}")
}

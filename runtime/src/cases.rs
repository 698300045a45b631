//! The cases of `*.test.toml` files, run for `weir test`: events through a handler in the real sandbox (`trial.rs`), by a clock that the
//! case sets. `config/cases.rs` reads the files; here they are run (`course.rs`), judged (`check.rs`, pure) and told (`report.rs`,
//! `junit.rs`).
//!
//! Considered and left out: the queue and dispatcher themselves, on simulated time. Tokio's paused clock goes with one thread and no
//! real I/O, and a case would depend on leases and gathering that it is not about. The parts that decide what becomes of an event
//! (`dispatcher/admit.rs`, `verdict.rs`, `outbox.rs`) are pure, and are asked as the dispatcher asks them.

mod check;
mod course;
mod diff;
pub mod find;
pub mod junit;
mod report;
mod web;

use std::time::{Duration, Instant};

use self::check::{Held, differences};
use self::course::{Course, Run};
pub use self::diff::Difference;
pub use self::report::{CaseRun, FileRun, Report};
use self::web::Web;
use crate::clock;
use crate::config::{Case, ConfigValue, Expect, HandlerConfig};
use crate::handler::LoadProblem;
use crate::trial::{Place, Stage};

/// What an event that does not run can come to, beside the outcomes of one that does: names for `expect.outcome`.
pub const ENDS: [&str; 3] = ["filtered", "expired", "loop"];

/// What cases are about: a handler, and where it runs.
pub struct Tested<'a> {
    /// The sandbox.
    pub place: &'a Place,
    /// The handler's name.
    pub name: &'a str,
    /// The handler.
    pub config: &'a HandlerConfig,
    /// How many handlers an event may descend through.
    pub hops: u32,
}

impl Tested<'_> {
    /// Runs one case.
    ///
    /// # Errors
    /// When the component, or a file that the configuration names, can't be used. A case that fails is a result.
    pub async fn run(&self, case: &Case) -> Result<CaseRun, LoadProblem> {
        let begun = Instant::now();
        let mut config = self.config.clone();
        replace(&mut config.config, &case.config);
        if let Some(email) = &mut config.grants.email {
            // A rate goes by real time, in which the days of a case are milliseconds.
            email.rate = None;
        }
        let web = Web::new(&case.http);
        let stage = self.place.load_over(web.outgoing(), self.name, &config).await?;
        let now = case.now.unwrap_or_else(clock::now);
        let mut course = Course::new((&stage, &web), (self.name, &config, self.hops), now);
        let (mut differences, mut rest, mut all) = (Vec::new(), Vec::new(), Tally::default());
        for (at, step) in case.steps.iter().enumerate() {
            let runs = match course.step(step).await {
                Ok(runs) => runs,
                Err(too_many) => {
                    differences.push(Difference::said(&place(case, at, "runs"), "an end", &too_many));
                    break;
                }
            };
            all.add(&runs);
            match &step.expect {
                Some(expect) => {
                    let held = held(&stage, expect).await;
                    differences.extend(differences_of(expect, &runs, &held, &place(case, at, "")));
                }
                None => rest.extend(runs),
            }
        }
        if case.expect.is_some() || case.steps.iter().any(|step| step.expect.is_none()) {
            let expect = case.expect.clone().unwrap_or_default();
            let held = held(&stage, &expect).await;
            differences.extend(differences_of(&expect, &rest, &held, ""));
        }
        let Tally { fuel, log, runs } = all;
        let (name, line) = (case.name.clone(), case.line);
        Ok(CaseRun { name, line, differences, runs, fuel, log, took: begun.elapsed() })
    }
}

/// What all runs of a case come to together.
#[derive(Default)]
struct Tally {
    runs: usize,
    fuel: u64,
    log: String,
}

impl Tally {
    fn add(&mut self, runs: &[Run]) {
        self.runs += runs.len();
        for run in runs {
            self.fuel = self.fuel.max(run.fuel);
            self.log.push_str(&run.log);
        }
    }
}

/// What the buckets hold that something is expected of; else why that can't be told.
async fn held(stage: &Stage, expect: &Expect) -> Held {
    let mut held = Held::new();
    for (name, _) in &expect.buckets {
        let read = match stage.bucket(name).await {
            Ok(Some(bucket)) => Ok(bucket),
            Ok(None) => Err("it is not granted".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        held.insert(name.clone(), read);
    }
    held
}

fn differences_of(expect: &Expect, runs: &[Run], held: &Held, place: &str) -> Vec<Difference> {
    let mut found = differences(expect, runs, held);
    for difference in &mut found {
        difference.at.insert_str(0, place);
    }
    found
}

/// Where in a case: nothing where there is one step.
fn place(case: &Case, step: usize, what: &str) -> String {
    if case.steps.len() > 1 { format!("events[{step}]: {what}") } else { what.to_owned() }
}

/// Puts values in the place of others of their names.
pub fn replace(config: &mut Vec<(String, ConfigValue)>, with: &[(String, ConfigValue)]) {
    config.retain(|(name, _)| !with.iter().any(|(other, _)| other == name));
    config.extend(with.iter().cloned());
}

/// How long something took, as reports write it: seconds.
fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}

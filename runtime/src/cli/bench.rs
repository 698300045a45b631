//! `weir bench`: what an event costs on this machine, beside the engine's own floor.

use std::path::{Path, PathBuf};

use super::output::{Cell, CliError, Global, Output};
use crate::bench::{self, Aim, HANDLER, Measured, Plan, Row};
use crate::config::Ceilings;
use crate::event::{Event, json};
use crate::queue::promises;
use crate::queue::url::QueueUrl;
use crate::sandbox::Sandbox;

/// Measures this machine: bare engine loops, the sandbox, the whole path, per event.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// Run this component instead of the one that is built in: the cost of a handler of yours.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Give it this event (CloudEvents JSON) instead of 500 bytes of built-in JSON.
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// Measure the whole path over this queue too, and, where a broker keeps what waits, its bare client beside it: both on objects of
    /// their own, which are removed at the end. Any other queue should be empty, as what it holds is run too.
    #[arg(long, value_name = "URL")]
    queue: Option<String>,
    /// Events in each round.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    events: u64,
}

/// Runs the command.
///
/// # Errors
/// When the component can't be used, or a run of it does not end ok.
pub fn run(bench: &Bench, global: &Global) -> Result<(), CliError> {
    let component = match &bench.component {
        None => wat::parse_str(HANDLER).map_err(|error| CliError::Failed(format!("the built-in handler: {error}")))?,
        Some(file) => {
            let sandbox = Sandbox::new(&Ceilings::default(), 1, None);
            let read = sandbox.read(file).map_err(|error| CliError::Wrong(format!("`{}` {error}", file.display())))?;
            read.0
        }
    };
    let event = bench.event.as_deref().map_or_else(|| Ok(bench::event()), read_event)?;
    let here = std::env::current_dir().unwrap_or_default();
    let queue = bench.queue.as_deref().map(|url| QueueUrl::parse(url, &here)).transpose().map_err(CliError::Wrong)?;
    let adapter = queue.as_ref().map_or("", QueueUrl::adapter);
    let keeps_nothing = promises().iter().any(|(name, features)| *name == adapter && !features.at_least_once);
    let failed = |error: anyhow::Error| CliError::Failed(format!("{error:#}"));
    let folder = tempfile::tempdir().map_err(|error| failed(error.into()))?;
    let Measured { rows, aims, cores } =
        bench::measure(Plan { component: &component, event, events: bench.events, folder: folder.path(), queue: queue.as_ref() })
            .map_err(failed)?;
    Output::stdout(|output| {
        if global.json {
            return output.json(&serde_json::json!({ "machine": bench::machine(), "rows": rows, "aims": aims, "cores": cores }));
        }
        output.line(&bench::machine())?;
        let cells = |row: &Row| {
            let number = |value: f64, digits: usize| Cell::number(Some(format!("{value:.digits$}")));
            [Cell::text(row.name), number(row.cpu_us, 2), number(row.ratio, 2), number(row.events_per_second, 0)]
        };
        let rows: Vec<_> = rows.iter().map(cells).collect();
        output.table(["ROW", "CPU µs/event", "× tuned", "events/s"], &rows, "nothing was measured")?;
        for Aim { name, aim, measured, holds } in &aims {
            let holds = if *holds { "holds" } else { "does not hold" };
            output.line(&format!("{adapter}, on {cores:.2} cores: {name} {aim:.1}; {measured:.1}: {holds}"))?;
        }
        if keeps_nothing {
            let why = "what nobody reads is not kept, so there is no queue to fill, and no bare client beside it";
            output.line(&format!("{adapter}: {why}"))?;
        }
        Ok(())
    })
}

fn read_event(file: &Path) -> Result<Event, CliError> {
    let wrong = |why: String| CliError::Wrong(format!("`{}`: {why}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    json::read(&text).map_err(|error| wrong(error.to_string()))
}

//! `weir move`: what waits in one queue goes to another. `move_events/reading.rs` says as whom it is read, `move_events/carry.rs` carries it.

mod carry;
mod reading;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::carry::{Carried, Carrier};
use self::reading::Reading;
use super::direct;
use super::output::{CliError, EXIT_FAILED, EXIT_INTERRUPTED, Global, Output, note};
use crate::config::Config;
use crate::queue::url::QueueUrl;
use crate::queue::{Depth, Opening, Queue};
use crate::store::Store;

/// The prefix of subscriptions, where no configuration says otherwise (surface.md §1).
const GROUP: &str = "weir";

/// Moves what waits in one queue to another, for a handler.
///
/// Events keep their attributes, and what waits for its time keeps that; tries begin anew. What waited when the command began is moved; what
/// comes meanwhile stays, or goes as well. Ctrl-C ends it after the batch in hand, and it can be run again: a kill repeats at most one batch,
/// with the same sources and ids.
#[derive(Debug, clap::Args)]
pub struct Move {
    /// The queue that is emptied: its name in weir.toml, or a queue URL.
    #[arg(long, value_name = "QUEUE")]
    pub from: String,
    /// The queue that gets the events.
    #[arg(long, value_name = "QUEUE")]
    pub to: String,
    /// The handler in whose place they are read; needed where several read the queue.
    #[arg(long)]
    pub handler: Option<String>,
}

/// What it came to.
#[derive(Debug, Serialize)]
struct Moved {
    moved: u64,
    from: String,
    to: String,
    /// As whom the queue was read.
    subscription: String,
    /// What still waits there; null where the queue can't tell.
    left: Option<u64>,
    interrupted: bool,
}

/// One side.
struct End {
    name: String,
    url: QueueUrl,
    opening: Opening,
    /// It is one of weir.toml.
    is_named: bool,
}

/// Runs the command.
///
/// # Errors
/// When the command line is wrong, a queue can't be opened or asked, or something that waited stays behind.
pub fn run(args: &Move, global: &Global) -> Result<ExitCode, CliError> {
    Output::stdout(|output| run_to(args, global, output))
}

pub(super) fn run_to(args: &Move, global: &Global, output: &mut Output) -> Result<ExitCode, CliError> {
    // URLs need no weir.toml; where there is one, it has the group.
    let is_named = [&args.from, &args.to].iter().any(|queue| !queue.contains(':'));
    let config = (is_named || global.config.exists()).then(|| global.load()).transpose()?;
    let mut from = End::of(&args.from, config.as_ref())?;
    let mut to = End::of(&args.to, config.as_ref())?;
    from.refuse_same(&to)?;
    from.read_as_server(config.as_ref());
    let store = store(config.as_ref(), [&from, &to]);
    from.opening.store.clone_from(&store);
    to.opening.store = store;
    if let QueueUrl::Disk(folder) = &from.url
        && !folder.exists()
    {
        return Err(CliError::Failed(format!("queue `{}`: folder `{}` is not there", from.name, folder.display())));
    }
    let group = group_of(config.as_ref());
    let shown = (from.url.to_string(), to.url.to_string());
    let names = (from.name.clone(), to.name.clone());
    let (reading, carried) = direct::runtime()?.block_on(between(from, to, (group, args.handler.as_deref())))?;
    print(&reading, &carried, (names, shown), global.json, output)?;
    if let Some(stopped) = carried.stopped {
        return Err(stopped);
    }
    Ok(ExitCode::from(match (carried.interrupted, carried.stays.is_empty()) {
        (true, _) => EXIT_INTERRUPTED,
        (false, false) => EXIT_FAILED,
        (false, true) => return Ok(ExitCode::SUCCESS),
    }))
}

impl End {
    fn of(queue: &str, config: Option<&Config>) -> Result<Self, CliError> {
        if queue.contains(':') {
            let url = QueueUrl::parse(queue, &std::env::current_dir()?).map_err(CliError::Wrong)?;
            let name = super::publish::name_of(&url);
            let opening = Opening { group: group_of(config).to_owned(), ..direct::opening(&name, direct::MAX_SIZE) };
            return Ok(Self { name, url, opening, is_named: false });
        }
        let Some(config) = config else { return Err(CliError::Wrong(format!("queue `{queue}` needs a weir.toml"))) };
        let known = direct::queue_of(config, queue)?;
        let opening = direct::named(config, queue, known);
        Ok(Self { name: queue.to_owned(), url: known.url.clone(), opening, is_named: true })
    }

    /// A broker of MQTT keeps what waits for the process of a name: it is read under that of the server, or without one under a name that
    /// stays, so that what a killed move held comes to the next one. Elsewhere a name of its own keeps it apart from a server that runs.
    fn read_as_server(&mut self, config: Option<&Config>) {
        if self.url.adapter() == "mqtt" {
            self.opening.process = config.and_then(direct::name).unwrap_or_else(|| "move".to_owned());
        }
    }

    fn refuse_same(&self, other: &Self) -> Result<(), CliError> {
        let is_same = match (&self.url, &other.url) {
            (QueueUrl::Disk(one), QueueUrl::Disk(two)) => {
                one == two || matches!((one.canonicalize(), two.canonicalize()), (Ok(one), Ok(two)) if one == two)
            }
            // As shown: a lease or a password makes no other queue.
            (one, two) => one.to_string() == two.to_string(),
        };
        if is_same {
            let text = format!("`--from` and `--to` are the same queue, `{}` (expected two)", self.url);
            return Err(CliError::Wrong(text));
        }
        Ok(())
    }

    async fn open(self) -> Result<Arc<dyn Queue>, CliError> {
        direct::opened(&self.url, self.opening).await
    }
}

fn group_of(config: Option<&Config>) -> &str {
    config.map_or(GROUP, |config| config.server.group.as_str())
}

/// Where adapters keep what their broker can't (delivery.md §6), if a named queue has such a broker.
fn store(config: Option<&Config>, ends: [&End; 2]) -> Option<Arc<Store>> {
    let named = ends.into_iter().filter(|end| end.is_named).map(|end| &end.url);
    direct::store_beside(config?, named).unwrap_or_else(|error| {
        note(&format!("what the store holds is not moved: {}", error.render(false)));
        None
    })
}

async fn between(from: End, to: End, (group, handler): (&str, Option<&str>)) -> Result<(Reading, Carried), CliError> {
    let stop = stop()?;
    let (from_name, to_name) = (from.name.clone(), to.name.clone());
    let store = from.opening.store.clone();
    let source = from.open().await?;
    let depth = source.depth().await.map_err(|error| direct::failure(&from_name, &error))?;
    let (tells, features) = (depth.events.is_some(), source.features());
    if handler.is_none() && features.at_least_once && features.groups && !tells {
        return Err(CliError::Wrong(format!(
            "queue `{from_name}` can't tell who reads it (name the handler in whose place it is read: `--handler`)"
        )));
    }
    let reading = Reading::choose(&from_name, &depth, group, handler).map_err(CliError::Wrong)?;
    // What the store has of a broker that can't tell is not all that waits.
    let total = waits(&depth, &reading.subscription).filter(|_| tells);
    let target = to.open().await?;
    let bar = bar(total);
    let carrier = Carrier { from: (&from_name, &*source), to: (&to_name, &*target), reading: &reading, stop: &stop, bar: &bar };
    let mut carried = carrier.carry(total).await;
    if let Some(store) = store.filter(|_| total.is_none()) {
        let counts = store.delayed(&from_name).await.unwrap_or_default().into_iter();
        let counts = counts.filter(|count| count.subscription.as_ref().is_none_or(|name| *name == reading.subscription));
        match counts.map(|count| count.events).sum::<u64>() {
            0 => {}
            left => carried.stays.push(stays(left, &from_name)),
        }
    }
    bar.finish_and_clear();
    // What is still leased goes back.
    source.close().await;
    target.close().await;
    Ok((reading, carried))
}

/// What is said of events that are not due, and can't be seen before.
fn stays(left: u64, from: &str) -> String {
    format!("{left} events wait for their time in `{from}` and stay (run it again when they are due)")
}

/// How much a subscription has still to end, or would have.
fn waits(depth: &Depth, subscription: &str) -> Option<u64> {
    match depth.subscriptions.iter().find(|known| known.name == subscription) {
        Some(known) => known.events,
        None => depth.events,
    }
}

/// Cancelled by Ctrl-C and SIGTERM.
fn stop() -> Result<CancellationToken, CliError> {
    let listen = |kind| signal(kind).map_err(|error| CliError::Failed(format!("signals can't be listened to: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}

/// Shown on a terminal only.
fn bar(total: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:40} {pos} of {len} events moved, {per_sec}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} events moved, {per_sec}, {elapsed}"),
    };
    // The templates are fixed and tested; another would only look different.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

type Names = ((String, String), (String, String));

fn print(reading: &Reading, carried: &Carried, names: Names, json: bool, output: &mut Output) -> Result<(), CliError> {
    let Carried { moved, left, interrupted, .. } = *carried;
    let ((from, to), (from_url, to_url)) = names;
    for stays in &carried.stays {
        note(stays);
    }
    if json {
        let subscription = reading.subscription.clone();
        return output.json(&Moved { moved, from: from_url, to: to_url, subscription, left, interrupted });
    }
    output.line(&format!("moved {moved} events from `{from}` to `{to}`"))?;
    if let Some(left) = left.filter(|left| *left > 0) {
        note(&format!("{left} events wait in `{from}` (run it again to move them)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_can_be_drawn() {
        for template in
            ["{bar:40} {pos} of {len} events moved, {per_sec}, {eta} left", "{spinner} {pos} events moved, {per_sec}, {elapsed}"]
        {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}

//! `weir queues`: what waits where, asked of a running server, else of the queues themselves.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::client::{Found, ServerArgs};
use super::direct::{self, Direct};
use super::output::{Cell, CliError, Global, Output, Tone, note};
use crate::admin::status::queue::FallbackStatus;
use crate::admin::status::{QueueFacts, QueueStatus, SubscriptionStatus};
use crate::clock;
use crate::config::{Config, QueueConfig};
use crate::queue::url::QueueUrl;
use crate::queue::{Depth, Features, QueueError};
use crate::store::Store;

/// Shows the queues: what waits, how old it is, and what runs.
#[derive(Debug, clap::Args)]
pub struct Queues {
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Asks and prints.
///
/// # Errors
/// When neither a server nor the queues themselves can be asked.
pub fn run(args: &Queues, global: &Global) -> Result<(), CliError> {
    Output::stdout(|output| run_to(args, global, output))
}

pub(super) fn run_to(args: &Queues, global: &Global, output: &mut Output) -> Result<(), CliError> {
    let reply = match args.server.find(global)? {
        Found::Server(client) => Ok(client.get("/api/queues")?),
        Found::Nobody(why) => Err(why),
    };
    match reply {
        Ok(reply) if global.json => output.json(&reply.text()?),
        Ok(reply) => print(&reply.value::<Vec<QueueStatus>>()?, output),
        Err(why) => {
            let config = global.load()?;
            note(&format!("{why}; asking the queues themselves"));
            let queues = ask(&config)?;
            if global.json { output.json(&queues) } else { print(&queues, output) }
        }
    }
}

/// What both embedded queues promise, for those that are not opened.
const AT_LEAST_ONCE: Features = Features {
    at_least_once: true,
    durable: false,
    groups: true,
    ordered: true,
    delay: true,
    counts_tries: true,
    stable_position: true,
    depth: true,
    bounded: true,
    shared: false,
    hold: None,
    ..Features::LASTING
};

fn ask(config: &Config) -> Result<Vec<QueueStatus>, CliError> {
    let store = direct::store_beside(config, config.queues.values().map(|queue| &queue.url)).unwrap_or_else(|error| {
        note(&format!("what the store holds is not counted: {}", error.render(false)));
        None
    });
    config.queues.iter().map(|(name, queue)| ask_one((config, store.as_ref()), name, queue)).collect()
}

fn ask_one((config, store): (&Config, Option<&Arc<Store>>), name: &str, queue: &QueueConfig) -> Result<QueueStatus, CliError> {
    let readers = config.handlers.iter().filter(|(_, handler)| handler.queues.iter().any(|queue| queue == name));
    let handlers: Vec<_> = readers.map(|(handler, _)| (handler.as_str(), None)).collect();
    let group = &config.server.group;
    let facts = |features| QueueFacts { name, config: queue, features, group, handlers: &handlers };
    if queue.url == QueueUrl::Memory {
        // It lives and dies with its server: that is how it is, and no reason to say nothing of the others.
        let gone = QueueError::Unavailable("only its server can reach a `memory:` queue".to_owned());
        return Ok(QueueStatus::new(&facts(AT_LEAST_ONCE), Err(gone), clock::now()));
    }
    if let QueueUrl::Disk(folder) = &queue.url
        && !folder.exists()
    {
        // Nothing was published yet: asking makes no folder.
        let nothing = Depth { events: Some(0), bytes: Some(0), subscriptions: Vec::new() };
        return Ok(QueueStatus::new(&facts(AT_LEAST_ONCE), Ok(nothing), clock::now()));
    }
    let fallback = queue.fallback.as_ref().filter(|folder| folder.exists()).map(|folder| fallback(name, queue, folder));
    let direct = Direct::named(config, name, queue, store.cloned())?;
    let depth = direct.ask(|queue| queue.depth());
    let fallback = fallback.transpose()?;
    Ok(QueueStatus { fallback, ..QueueStatus::new(&facts(direct.queue().features()), depth, clock::now()) })
}

fn fallback(name: &str, queue: &QueueConfig, folder: &Path) -> Result<FallbackStatus, CliError> {
    let url = QueueUrl::Disk(folder.to_owned());
    let late = Direct::open(name, &url, queue.max_size)?;
    Ok(FallbackStatus::new(url.to_string(), late.ask(|queue| queue.depth())))
}

fn print(queues: &[QueueStatus], output: &mut Output) -> Result<(), CliError> {
    let names = ["QUEUE", "ADAPTER", "WAITS", "BYTES", "HANDLER", "DEPTH", "LAG", "IN FLIGHT", "PARKED"];
    let rows: Vec<[Cell; 9]> = queues.iter().flat_map(rows).collect();
    output.table(names, &rows, "no queues")?;
    for queue in queues {
        if let Some(error) = &queue.error {
            output.line(&format!("{}: {error}", queue.name))?;
        }
    }
    for (queue, fallback) in queues.iter().filter_map(|queue| Some((queue, queue.fallback.as_ref()?))) {
        let FallbackStatus { url, depth, error, .. } = fallback;
        if let Some(depth) = depth.filter(|depth| *depth > 0) {
            output.line(&format!("{}: {depth} wait in its fallback `{url}` for the broker", queue.name))?;
        }
        if let Some(error) = error {
            output.line(&format!("{}: its fallback `{url}`: {error}", queue.name))?;
        }
    }
    let orphans: BTreeSet<&str> = queues
        .iter()
        .flat_map(|queue| &queue.subscriptions)
        .filter(|subscription| subscription.orphan)
        .map(|subscription| subscription.handler.as_str())
        .collect();
    orphans.into_iter().try_for_each(|handler| {
        output.line(&format!("{handler}: no handler of weir.toml reads this (`weir handlers forget {handler}` removes it)"))
    })
}

/// One row for each subscription, the queue's own cells on the first.
fn rows(queue: &QueueStatus) -> Vec<[Cell; 9]> {
    let own = |is_first: bool| {
        let tone = if queue.connected { Tone::Good } else { Tone::Bad };
        match is_first {
            true => (Cell::text(&queue.name).tone(tone), queue.adapter.as_str(), queue.depth, queue.bytes),
            false => (Cell::text(""), "", None, None),
        }
    };
    let number = |is_first: bool, number| if is_first { Cell::number(number) } else { Cell::number(Some("")) };
    let row = |is_first: bool, subscription: Option<&SubscriptionStatus>| {
        let (name, adapter, depth, bytes) = own(is_first);
        let handler = match subscription {
            Some(subscription) if subscription.orphan => {
                Cell::text(&format!("{} (orphan)", subscription.handler)).tone(Tone::Notable)
            }
            Some(subscription) => Cell::text(&subscription.handler),
            None => Cell::text("-"),
        };
        [
            name,
            Cell::text(adapter),
            number(is_first, depth.map(|depth| depth.to_string())),
            number(is_first, bytes.map(|bytes| bytes.to_string())),
            handler,
            Cell::number(subscription.and_then(|subscription| subscription.depth)),
            Cell::number(subscription.and_then(|subscription| subscription.lag_seconds).map(|lag| format!("{lag:.1}s"))),
            Cell::number(subscription.and_then(|subscription| subscription.in_flight)),
            Cell::number(subscription.and_then(|subscription| subscription.parked)),
        ]
    };
    if queue.subscriptions.is_empty() {
        return vec![row(true, None)];
    }
    queue.subscriptions.iter().enumerate().map(|(at, subscription)| row(at == 0, Some(subscription))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_stand_in_a_table() {
        let subscription = |handler: &str, orphan: bool| SubscriptionStatus {
            handler: handler.to_owned(),
            depth: Some(7),
            lag_seconds: (!orphan).then_some(1.25),
            orphan,
            ..SubscriptionStatus::default()
        };
        let events = QueueStatus {
            name: "events".to_owned(),
            adapter: "disk".to_owned(),
            connected: true,
            depth: Some(7),
            bytes: Some(3_500),
            subscriptions: vec![subscription("mailer", false), subscription("old", true)],
            ..QueueStatus::default()
        };
        let late = QueueStatus {
            name: "late".to_owned(),
            adapter: "memory".to_owned(),
            error: Some("away".to_owned()),
            ..QueueStatus::default()
        };
        let mut text = Vec::new();
        print(&[events, late], &mut Output::new(&mut text, false)).unwrap();
        let expected = "\
QUEUE   ADAPTER  WAITS  BYTES  HANDLER       DEPTH   LAG  IN FLIGHT  PARKED
events  disk         7   3500  mailer            7  1.2s          -       -
                               old (orphan)      7     -          -       -
late    memory       -      -  -                 -     -          -       -
late: away
old: no handler of weir.toml reads this (`weir handlers forget old` removes it)
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}

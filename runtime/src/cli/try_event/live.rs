//! `weir try --live`: what the handler published leaves, once it is done.

use std::sync::Arc;

use crate::cli::client::{Found, ServerArgs};
use crate::cli::direct::{self, Direct};
use crate::cli::output::{CliError, Global};
use crate::cli::publish::sink::Sink;
use crate::clock::{self, Timestamp};
use crate::config::Config;
use crate::event::Event;
use crate::queue::url::QueueUrl;
use crate::trial::Leaving;

/// Publishes in order; stops at the first that is not taken.
pub(super) fn publish(leaving: &[Leaving], server: &ServerArgs, (config, global): (&Config, &Global)) -> Result<(), CliError> {
    for (at, one) in leaving.iter().enumerate() {
        let published = publish_one(one, server, (config, global));
        published.map_err(|error| match (error, at) {
            (CliError::Failed(text), 1..) => CliError::Failed(format!("{text} ({at} events were published before that)")),
            (error, _) => error,
        })?;
    }
    Ok(())
}

fn publish_one(one: &Leaving, server: &ServerArgs, (config, global): (&Config, &Global)) -> Result<(), CliError> {
    let queue = direct::queue_of(config, &one.queue)?;
    let delay = one.due.map(|due: Timestamp| due.since(clock::now()));
    // An embedded queue belongs to the server that runs; a broker has room for both.
    let embedded = matches!(queue.url, QueueUrl::Memory | QueueUrl::Disk(_));
    let found = if embedded { Some(server.find(global)?) } else { None };
    let (sink, event) = match found {
        Some(Found::Server(_)) if one.own => {
            let text =
                format!("an event for the handler itself can't be published through a server, which owns queue `{}`", one.queue);
            return Err(CliError::Failed(text));
        }
        Some(Found::Server(client)) => (Sink::server(&one.queue, client), bare(&one.event)),
        _ => (Sink::direct(&one.queue, Direct::named(config, &one.queue, queue, None)?), Arc::clone(&one.event)),
    };
    sink.publish(&[event], delay).map_err(|stopped| stopped.error)
}

/// Without Weir's own attributes, which no server takes from outside.
fn bare(event: &Event) -> Arc<Event> {
    let mut event = event.clone();
    event.extensions.retain(|(name, _)| !name.starts_with("weir"));
    Arc::new(event)
}

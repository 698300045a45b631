//! `weir handlers`: what each handler of a running server does, and what an operator may change about it.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::client::{Client, Found, ServerArgs};
use super::output::{Cell, CliError, Global, Output, Tone};
use crate::admin::backend::Forgotten;
use crate::admin::status::{HandlerState, HandlerStatus, QueueNames, Usage};

/// Shows the handlers of a running server: version, state, counts, and how much of their limits they use; pauses and resumes them.
#[derive(Debug, clap::Args)]
pub struct Handlers {
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// What to change; default: nothing, they are shown.
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What an operator may change.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Nothing is pulled for a handler any more, in every process that shares the store, also after a restart.
    Pause {
        /// The handler.
        name: String,
    },
    /// Ends such a pause.
    Resume {
        /// The handler.
        name: String,
    },
    /// Removes what waits for a handler that weir.toml does not have any more, or for queues that it does not read any more.
    Forget {
        /// The handler, from `weir queues`.
        name: String,
    },
}

/// Asks and prints.
///
/// # Errors
/// When no server answers.
pub fn run(args: &Handlers, global: &Global) -> Result<(), CliError> {
    Output::stdout(|output| run_to(args, global, output))
}

pub(super) fn run_to(args: &Handlers, global: &Global, output: &mut Output) -> Result<(), CliError> {
    let client = match args.server.find(global)? {
        Found::Server(client) => client,
        Found::Nobody(why) => return Err(CliError::Failed(format!("{why}; start one with `weir serve`"))),
    };
    if let Some(action) = &args.action {
        return change(&client, action, global.json, output);
    }
    let reply = client.get("/api/handlers")?;
    if global.json { output.json(&reply.text()?) } else { print(&reply.value::<Vec<HandlerStatus>>()?, output) }
}

fn change(client: &Client, action: &Action, as_json: bool, output: &mut Output) -> Result<(), CliError> {
    #[derive(Deserialize)]
    struct Answer {
        forgotten: Vec<Forgotten>,
    }
    let (name, verb) = match action {
        Action::Pause { name } => (name, "pause"),
        Action::Resume { name } => (name, "resume"),
        Action::Forget { name } => (name, "forget"),
    };
    let reply = client.post(&format!("/api/handlers/{}/{verb}", utf8_percent_encode(name, NON_ALPHANUMERIC)), "", &[])?;
    if as_json {
        return output.json(&reply.text()?);
    }
    if matches!(action, Action::Forget { .. }) {
        let forgotten = reply.value::<Answer>()?.forgotten;
        return forgotten.iter().try_for_each(|one| output.line(&forgot(name, one)));
    }
    print(&reply.value::<Option<HandlerStatus>>()?.into_iter().collect::<Vec<_>>(), output)
}

fn forgot(name: &str, one: &Forgotten) -> String {
    let what = match one.events {
        Some(1) => "the event that waited for it is gone".to_owned(),
        Some(count) => format!("the {count} events that waited for it are gone"),
        None => "what waited for it is gone".to_owned(),
    };
    format!("queue `{}` has forgotten `{name}`: {what}", one.queue)
}

fn print(handlers: &[HandlerStatus], output: &mut Output) -> Result<(), CliError> {
    let names =
        ["HANDLER", "QUEUE", "STATE", "VERSION", "IN FLIGHT", "PARKED", "ACKED", "DEAD", "RETURNED", "FUEL P99", "MEMORY P99"];
    let rows: Vec<[Cell; 11]> = handlers.iter().map(row).collect();
    output.table(names, &rows, "no handlers")?;
    for handler in handlers {
        if let Some(error) = &handler.error {
            output.line(&format!("{}: {error}", handler.name))?;
        }
    }
    Ok(())
}

fn row(handler: &HandlerStatus) -> [Cell; 11] {
    let queues = match &handler.queue {
        QueueNames::One(name) => name.clone(),
        QueueNames::Several(names) => names.join(", "),
    };
    let state = match (handler.state, &handler.paused_by) {
        (HandlerState::Running, _) => Cell::text("running").tone(Tone::Good),
        (HandlerState::Failed, _) => Cell::text("failed").tone(Tone::Bad),
        (HandlerState::Paused, None) => Cell::text("paused").tone(Tone::Notable),
        (HandlerState::Paused, Some(by)) => Cell::text(&format!("paused ({by})")).tone(Tone::Notable),
    };
    let digest = handler.version.as_deref().map_or("-", |version| version.strip_prefix("sha256:").unwrap_or(version));
    [
        Cell::text(&handler.name),
        Cell::text(&queues),
        state,
        // The first twelve digits, as in logs.
        Cell::text(&digest.chars().take(12).collect::<String>()),
        Cell::number(Some(handler.in_flight)),
        Cell::number(Some(handler.parked)),
        Cell::number(Some(handler.ended.acked)),
        Cell::number(Some(handler.ended.dead)),
        Cell::number(Some(handler.returned)),
        share(handler.fuel),
        share(handler.memory),
    ]
}

/// How much of its limit nearly every run stays within.
fn share(usage: Usage) -> Cell {
    let percent =
        usage.p99.zip(usage.limit.filter(|limit| *limit > 0)).map(|(p99, limit)| p99.saturating_mul(100).div_ceil(limit));
    let tone = if percent > Some(80) { Tone::Notable } else { Tone::Good };
    Cell::number(percent.map(|percent| format!("{}%", percent.min(100)))).tone(tone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_stand_in_a_table() {
        let handler = HandlerStatus {
            name: "mailer".to_owned(),
            queue: QueueNames::One("events".to_owned()),
            state: HandlerState::Paused,
            paused_by: Some("load".to_owned()),
            version: Some("sha256:0123456789abcdef".to_owned()),
            fuel: Usage { p50: Some(10), p99: Some(25), limit: Some(1_000) },
            error: Some("component is no component".to_owned()),
            ..HandlerStatus::default()
        };
        let mut text = Vec::new();
        print(&[handler], &mut Output::new(&mut text, false)).unwrap();
        let expected = "\
HANDLER  QUEUE   STATE          VERSION       IN FLIGHT  PARKED  ACKED  DEAD  RETURNED  FUEL P99  MEMORY P99
mailer   events  paused (load)  0123456789ab          0       0      0     0         0        3%           -
mailer: component is no component
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}

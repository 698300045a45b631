//! `weir dead`: events that were given up, listed, shown, replayed and dropped, by a running server, else here.
//!
//! `dead/place.rs` asks, `dead/change.rs` replays and drops, `dead/shown.rs` prints.

mod change;
mod place;
mod shown;

use serde_json::value::RawValue;

use self::place::Place;
use self::shown::{Rows, print_one};
use super::client::ServerArgs;
use super::output::{CliError, Global, Output, note};
use crate::clock::{self, Timestamp};
use crate::dead::{DEAD_LIST_MAX, DeadFilter, DeadLetter, json};
use crate::source::delay;

/// Lists, shows, replays and drops dead letters: events that were given up.
#[derive(Debug, clap::Args)]
pub struct Dead {
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with dead letters.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Lists dead letters, newest first; with --json one a line.
    List(List),
    /// Shows one with its event, log and backtrace.
    Show {
        /// Its id, from `weir dead list`.
        id: String,
    },
    /// Publishes events again, each for its handler alone, from attempt 1, and removes their dead letters; oldest first.
    ///
    /// Source and id stay, so that a mail that was sent is not sent again.
    Replay(Replay),
    /// Removes dead letters with their events.
    Drop(Drop),
}

/// Which ones. All that is given must hold.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Which {
    /// Whose outcome this is, or whose reason contains this text.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Given up longer ago than this: `10m`, `7d`.
    #[arg(long, value_name = "DURATION")]
    pub older_than: Option<String>,
}

/// What is listed.
#[derive(Debug, Default, clap::Args)]
pub struct List {
    /// Of this handler.
    #[arg(long, value_name = "NAME")]
    pub handler: Option<String>,
    /// Of this queue.
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Why and since when.
    #[command(flatten)]
    pub which: Which,
    /// At most so many; default: 1,000, with --json all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// What is replayed.
#[derive(Debug, Default, clap::Args)]
pub struct Replay {
    /// Their ids, from `weir dead list`; without them those that --handler, --reason and --older-than say, or --all.
    #[arg(value_name = "ID", conflicts_with_all = ["reason", "older_than", "all"])]
    pub ids: Vec<String>,
    /// With ids: the handler that gets the events, instead of the one that gave them up. Without: the dead letters of this handler.
    #[arg(long, value_name = "NAME")]
    pub handler: Option<String>,
    /// The handler that gets the events, instead of the one that gave them up.
    #[arg(long, value_name = "NAME")]
    pub to: Option<String>,
    /// All events of this queue, which takes the dead letters of others (`dead = "NAME"`); what is in it is listed and dropped by its broker's own tools.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["ids", "handler", "to", "reason", "older_than", "all"])]
    pub queue: Option<String>,
    /// Why and since when.
    #[command(flatten)]
    pub which: Which,
    /// All of them.
    #[arg(long, conflicts_with_all = ["handler", "reason", "older_than"])]
    pub all: bool,
}

/// What is dropped.
#[derive(Debug, Default, clap::Args)]
pub struct Drop {
    /// Their ids, from `weir dead list`; without them those that --handler, --queue, --reason and --older-than say, or --all.
    #[arg(value_name = "ID", conflicts_with_all = ["handler", "queue", "reason", "older_than", "all"])]
    pub ids: Vec<String>,
    /// Of this handler.
    #[arg(long, value_name = "NAME")]
    pub handler: Option<String>,
    /// Of this queue.
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Why and since when.
    #[command(flatten)]
    pub which: Which,
    /// All of them.
    #[arg(long, conflicts_with_all = ["handler", "queue", "reason", "older_than"])]
    pub all: bool,
}

/// Asks and prints.
///
/// # Errors
/// When neither a server nor the store can be asked, there is no such dead letter, or it can't be replayed or dropped.
pub fn run(args: &Dead, global: &Global) -> Result<(), CliError> {
    Output::stdout(|output| run_to(args, global, output))
}

pub(super) fn run_to(args: &Dead, global: &Global, output: &mut Output) -> Result<(), CliError> {
    match &args.action {
        Action::List(list) => {
            let filter = Asked::new(&list.which, list.handler.as_ref(), list.queue.as_ref())?;
            print_list(&Place::find(&args.server, global)?, filter, list.limit, (global.json, output))
        }
        Action::Show { id } => {
            let letter = letter(id, &args.server, global)?;
            if global.json { output.json(&letter) } else { print_one(&read(&letter)?, output) }
        }
        Action::Replay(replay) => change::replay(replay, &args.server, global, output),
        Action::Drop(drop) => change::drop(drop, &args.server, global, output),
    }
}

/// One dead letter as the text that came: nothing in an event changes by being shown.
///
/// # Errors
/// When it is not known, or neither a server nor the store can be asked.
pub(super) fn letter(id: &str, server: &ServerArgs, global: &Global) -> Result<Box<RawValue>, CliError> {
    Place::find(server, global)?.get(id)
}

/// A dead letter of its text.
///
/// # Errors
/// When it is none.
pub(super) fn read(text: &RawValue) -> Result<DeadLetter, CliError> {
    json::read(text.get().as_bytes()).map_err(|why| CliError::Failed(format!("dead letter can't be read: {why}")))
}

/// What is asked for, as it was written: a server reads it by its own clock.
#[derive(Debug, Clone, Default)]
struct Asked {
    handler: Option<String>,
    queue: Option<String>,
    reason: Option<String>,
    older_than: Option<String>,
    /// Where the list goes on.
    before: Option<String>,
    max: Option<usize>,
}

impl Asked {
    fn new(which: &Which, handler: Option<&String>, queue: Option<&String>) -> Result<Self, CliError> {
        if let Some(age) = &which.older_than {
            delay::duration(age).map_err(|why| CliError::Wrong(format!("`--older-than`: {why}")))?;
        }
        let (reason, older_than) = (which.reason.clone(), which.older_than.clone());
        Ok(Self { handler: handler.cloned(), queue: queue.cloned(), reason, older_than, ..Self::default() })
    }

    fn is_all(&self) -> bool {
        [&self.handler, &self.queue, &self.reason, &self.older_than].into_iter().all(Option::is_none)
    }

    fn query(&self) -> String {
        let limit = self.max.map(|max| max.to_string());
        let given = [
            ("handler", self.handler.as_ref()),
            ("queue", self.queue.as_ref()),
            ("reason", self.reason.as_ref()),
            ("older-than", self.older_than.as_ref()),
            ("limit", limit.as_ref()),
            ("before", self.before.as_ref()),
        ];
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in given {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        let query = query.finish();
        if query.is_empty() { query } else { format!("?{query}") }
    }

    fn filter(&self, now: Timestamp) -> DeadFilter {
        let age = self.older_than.as_ref().and_then(|age| delay::duration(age).ok());
        DeadFilter {
            handler: self.handler.clone(),
            queue: self.queue.clone(),
            reason: self.reason.clone(),
            older_than: age.map(|age| Timestamp(now.0.saturating_sub(clock::millis(age)))),
            before: self.before.as_ref().and_then(|before| before.parse().ok()),
            max: self.max,
        }
    }
}

/// Prints page after page, up to the limit; of a table, one page's cells are kept until it is aligned.
fn print_list(
    place: &Place,
    mut asked: Asked,
    limit: Option<u64>,
    (as_json, output): (bool, &mut Output),
) -> Result<(), CliError> {
    let bound = limit.unwrap_or(if as_json { u64::MAX } else { DEAD_LIST_MAX as u64 });
    let (mut rows, mut count) = (Rows::default(), 0);
    loop {
        asked.max = Some(usize::try_from(bound - count).unwrap_or(DEAD_LIST_MAX).min(DEAD_LIST_MAX));
        let page = place.list(&asked)?;
        count += page.letters.len() as u64;
        for letter in &page.letters {
            if as_json { output.json(letter)? } else { rows.add(&read(letter)?) }
        }
        asked.before = page.next;
        if asked.before.is_none() || count >= bound {
            break;
        }
    }
    if !as_json {
        rows.print(output)?;
    }
    if asked.before.is_some() {
        note("there are more (narrow the list with --handler, --queue, --reason, --older-than, or raise --limit)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_reach_the_server_as_they_are() {
        let which = Which { reason: Some("no owner & more".to_owned()), older_than: Some("10m".to_owned()) };
        let mut asked = Asked::new(&which, Some(&"mailer".to_owned()), None).unwrap();
        asked.max = Some(5);
        assert_eq!(asked.query(), "?handler=mailer&reason=no+owner+%26+more&older-than=10m&limit=5");
        let filter = asked.filter(Timestamp(600_001));
        assert_eq!((filter.older_than, filter.max, filter.handler.as_deref()), (Some(Timestamp(1)), Some(5), Some("mailer")));
        assert!(Asked::default().query().is_empty() && Asked::default().is_all() && !asked.is_all());
        let soon = Which { older_than: Some("soon".to_owned()), ..Which::default() };
        assert_eq!(Asked::new(&soon, None, None).unwrap_err().exit_code(), 2);
    }
}

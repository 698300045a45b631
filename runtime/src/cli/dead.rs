//! `weir dead list` and `weir dead show`: events that were given up, asked of a running server, else of the store itself.

use serde_json::value::{RawValue, to_raw_value};

use super::client::{Found, ServerArgs};
use super::direct;
use super::output::{Cell, CliError, Global, Lines, Output, Tone, note, printable};
use crate::clock::{self, Timestamp};
use crate::dead::{DeadLetter, json};
use crate::event;
use crate::source::delay;
use crate::store::DeadFilter;

/// Characters of a reason in a list; `weir dead show` has the whole.
const REASON_SHOWN: usize = 80;

/// Shows dead letters: events that were given up.
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
}

/// Which ones. All that is given must hold.
#[derive(Debug, Default, clap::Args)]
pub struct List {
    /// Of this handler.
    #[arg(long)]
    pub handler: Option<String>,
    /// Whose reason contains this text.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Given up longer ago than this: `10m`, `7d`.
    #[arg(long, value_name = "DURATION")]
    pub older_than: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: Option<u16>,
}

/// Asks and prints.
///
/// # Errors
/// When neither a server nor the store can be asked, or there is no such dead letter.
pub fn run(args: &Dead, global: &Global) -> Result<(), CliError> {
    Output::stdout(|output| run_to(args, global, output))
}

pub(super) fn run_to(args: &Dead, global: &Global, output: &mut Output) -> Result<(), CliError> {
    if let Action::List(List { older_than: Some(age), .. }) = &args.action {
        delay::duration(age).map_err(|why| CliError::Wrong(format!("`--older-than`: {why}")))?;
    }
    match &args.action {
        Action::List(list) => {
            let (letters, more) = letters(list, args, global)?;
            print_list(&letters, global.json, output)?;
            if more {
                note("there are more (narrow the list with --handler, --reason, --older-than)");
            }
            Ok(())
        }
        Action::Show { id } => {
            let letter = letter(id, &args.server, global)?;
            if global.json { output.json(&letter) } else { print_one(&read(&letter)?, output) }
        }
    }
}

fn letters(list: &List, args: &Dead, global: &Global) -> Result<(Vec<Box<RawValue>>, bool), CliError> {
    match args.server.find(global)? {
        Found::Server(client) => {
            let reply = client.get(&format!("/api/dead{}", list.query()))?;
            Ok((reply.value()?, reply.more))
        }
        Found::Nobody(why) => {
            let config = global.load()?;
            note(&format!("{why}; reading the store itself"));
            let filter = list.filter(clock::now());
            let page = direct::store(&config, async |store| store.list_dead(filter).await)?;
            for place in &page.missing {
                note(&format!("the list lacks dead letters: {place}"));
            }
            for one in &page.unreadable {
                note(&format!("dead letter `{}` of queue `{}` can't be read ({})", one.id, one.queue, one.reason));
            }
            Ok((page.letters.iter().map(text).collect::<Result<_, _>>()?, page.next.is_some()))
        }
    }
}

/// One dead letter as the text that came.
///
/// # Errors
/// When it is not known, or neither a server nor the store can be asked.
pub(super) fn letter(id: &str, server: &ServerArgs, global: &Global) -> Result<Box<RawValue>, CliError> {
    let unknown = || CliError::Failed(format!("dead letter `{id}` is not known (`weir dead list` shows all)"));
    match server.find(global)? {
        Found::Server(client) => {
            let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
            let reply = client.get(&format!("/api/dead/{id}"))?;
            if reply.status == 404 { Err(unknown()) } else { reply.text() }
        }
        Found::Nobody(why) => {
            let config = global.load()?;
            note(&format!("{why}; reading the store itself"));
            let found = direct::store(&config, async |store| store.get_dead(id).await)?;
            text(&found.ok_or_else(unknown)?)
        }
    }
}

/// The text of a dead letter, which is what is handed on: nothing in an event changes by being listed.
fn text(letter: &DeadLetter) -> Result<Box<RawValue>, CliError> {
    to_raw_value(letter).map_err(|error| CliError::Failed(format!("dead letter `{}` can't be written: {error}", letter.id)))
}

/// A dead letter of its text.
///
/// # Errors
/// When it is none.
pub(super) fn read(text: &RawValue) -> Result<DeadLetter, CliError> {
    json::read(text.get().as_bytes()).map_err(|why| CliError::Failed(format!("dead letter can't be read: {why}")))
}

impl List {
    fn query(&self) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let given = [
            ("handler", self.handler.as_ref()),
            ("reason", self.reason.as_ref()),
            ("older-than", self.older_than.as_ref()),
            ("limit", limit.as_ref()),
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
            reason: self.reason.clone(),
            older_than: age.map(|age| Timestamp(now.0.saturating_sub(clock::millis(age)))),
            max: self.limit.map(usize::from),
            ..DeadFilter::default()
        }
    }
}

fn print_list(letters: &[Box<RawValue>], as_json: bool, output: &mut Output) -> Result<(), CliError> {
    if as_json {
        return letters.iter().try_for_each(|letter| output.json(letter));
    }
    let names = ["ID", "GIVEN UP", "HANDLER", "QUEUE", "OUTCOME", "ATTEMPTS", "TYPE", "REASON"];
    let rows = letters.iter().map(|text| Ok(row(&read(text)?))).collect::<Result<Vec<_>, CliError>>()?;
    output.table(names, &rows, "no dead letters")
}

fn row(letter: &DeadLetter) -> [Cell; 8] {
    let mut reason: String = letter.reason.chars().take(REASON_SHOWN).collect();
    if reason.len() < letter.reason.len() {
        reason.push('…');
    }
    [
        Cell::text(&letter.id),
        Cell::text(&letter.dead_at.to_string()),
        Cell::text(&letter.handler),
        Cell::text(&letter.queue),
        Cell::text(letter.outcome.unwrap_or("-")).tone(Tone::Bad),
        Cell::number(Some(letter.attempts)),
        Cell::text(&letter.event.kind),
        Cell::text(&reason),
    ]
}

fn print_one(letter: &DeadLetter, output: &mut Output) -> Result<(), CliError> {
    let limit = letter.limit.map(|limit| format!("{} = {}", limit.name, limit.value));
    for (name, value) in [
        ("id", Some(letter.id.as_str())),
        ("handler", Some(&letter.handler)),
        ("queue", Some(&letter.queue)),
        ("reason", Some(&letter.reason)),
        ("outcome", Some(letter.outcome.unwrap_or("not run"))),
        ("limit", limit.as_deref()),
        ("attempts", Some(&letter.attempts.to_string())),
        ("first seen", Some(&letter.first_at.to_string())),
        ("given up", Some(&letter.dead_at.to_string())),
        ("version", letter.version.as_deref()),
    ] {
        if let Some(value) = value {
            output.line(&format!("{name:<10}  {}", printable(value, Lines::Joined)))?;
        }
    }
    // Attributes on lines of their own, the data as it is: a number in it is shown as it was sent.
    let mut event = Vec::new();
    let written = event::json::write_into(&letter.event, &mut serde_json::Serializer::pretty(&mut event));
    written.map_err(|error| CliError::Failed(format!("event can't be written: {error}")))?;
    let pretty = String::from_utf8_lossy(&event);
    let backtrace = letter.backtrace.join("\n");
    for (name, text) in [("event", &*pretty), ("log", letter.log.trim_end()), ("backtrace", backtrace.as_str())] {
        if !text.is_empty() {
            output.line(&format!("\n{name}:"))?;
            for line in text.lines() {
                output.line(&format!("  {line}"))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::Event;
    use crate::outcome::Limit;

    fn letter() -> DeadLetter {
        DeadLetter {
            id: "0123456789abcdef".to_owned(),
            handler: "mailer".to_owned(),
            queue: "events".to_owned(),
            reason: "bad\n\u{1b}[2J".to_owned() + &"x".repeat(100),
            outcome: Some("fuel"),
            limit: Some(Limit { name: "fuel", value: 9 }),
            attempts: 2,
            first_at: Timestamp(0),
            dead_at: Timestamp(1_500),
            version: None,
            event: Arc::new(Event { id: "1".to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() }),
            log: "one\ntwo\u{1b}\n".to_owned(),
            backtrace: vec!["handle".to_owned()],
        }
    }

    fn printed(as_json: bool) -> String {
        let mut out = Vec::new();
        print_list(&[text(&letter()).unwrap(), text(&letter()).unwrap()], as_json, &mut Output::new(&mut out, false)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_list_is_a_table_or_one_value_a_line() {
        let json = printed(true);
        assert_eq!(json.lines().count(), 2);
        let value: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!((value["id"].as_str(), value["limit"]["value"].as_u64()), (Some("0123456789abcdef"), Some(9)));
        let table = printed(false);
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.contains("0123456789abcdef  1970-01-01T00:00:01.500Z  mailer   events  fuel"), "{table}");
        assert!(table.contains("bad \u{fffd}[2Jxxx") && table.ends_with("x…\n"), "{table}");
    }

    #[test]
    fn one_is_shown_with_everything() {
        let mut out = Vec::new();
        print_one(&letter(), &mut Output::new(&mut out, false)).unwrap();
        let shown = String::from_utf8(out).unwrap();
        for part in [
            "limit       fuel = 9\n",
            "given up    1970",
            "\nevent:\n  {\n",
            "\nlog:\n  one\n  two\u{fffd}\n",
            "\nbacktrace:\n  handle\n",
        ] {
            assert!(shown.contains(part), "{part:?} in {shown}");
        }
        assert!(!shown.contains('\u{1b}') && !shown.contains("\nversion"), "{shown}");
    }

    #[test]
    fn filters_reach_the_server_as_they_are() {
        let list = List {
            handler: Some("mailer".to_owned()),
            reason: Some("no owner & more".to_owned()),
            older_than: Some("10m".to_owned()),
            limit: Some(5),
        };
        assert_eq!(list.query(), "?handler=mailer&reason=no+owner+%26+more&older-than=10m&limit=5");
        let filter = list.filter(Timestamp(600_001));
        assert_eq!((filter.older_than, filter.max, filter.handler.as_deref()), (Some(Timestamp(1)), Some(5), Some("mailer")));
        assert_eq!(List::default().query(), "");
    }
}

//! Dead letters for people: a table, or one with everything.

use crate::cli::output::{Cell, CliError, Lines, Output, Tone, printable};
use crate::dead::DeadLetter;
use crate::event;

/// Characters of a reason in a list; `weir dead show` has the whole.
const REASON_SHOWN: usize = 80;

/// A table that grows: of each letter only its cells are kept.
#[derive(Default)]
pub(super) struct Rows(Vec<[Cell; 8]>);

impl Rows {
    pub(super) fn add(&mut self, letter: &DeadLetter) {
        self.0.push(row(letter));
    }

    pub(super) fn print(&self, output: &mut Output) -> Result<(), CliError> {
        let names = ["ID", "GIVEN UP", "HANDLER", "QUEUE", "OUTCOME", "ATTEMPTS", "TYPE", "REASON"];
        output.table(names, &self.0, "no dead letters")
    }
}

/// The cells of one.
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

/// Prints one with its event, log and backtrace.
pub(super) fn print_one(letter: &DeadLetter, output: &mut Output) -> Result<(), CliError> {
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
    use crate::clock::Timestamp;
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

    #[test]
    fn a_list_is_a_table() {
        let (mut rows, mut out) = (Rows::default(), Vec::new());
        rows.add(&letter());
        rows.add(&letter());
        rows.print(&mut Output::new(&mut out, false)).unwrap();
        let table = String::from_utf8(out).unwrap();
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
}

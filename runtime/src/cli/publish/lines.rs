//! `--stdin`: lines become events, gathered into batches, until the end or the first line that can't be taken.
//!
//! Memory is bounded by one batch and one line; ids are printed as they are accepted. A batch leaves when it is full, or when the
//! next line is not there yet, so that what a slow producer writes does not wait.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::Progress;
use super::sink::{Sink, Stopped};
use crate::cli::output::{CliError, Output};
use crate::event::{Event, json};
use crate::source::http::STRUCTURED_BODY_MAX;
use crate::source::{self, Intake, raw};

/// Events of one batch: what a queue commits at once (DESIGN.md §4).
const BATCH_EVENTS: usize = 1_000;

/// Bytes of one batch: few enough to be quick to answer, and well within what a server reads.
const BATCH_BYTES: usize = 1 << 20;

/// Bytes read ahead from stdin: some batches of small events.
pub(super) const READ_AHEAD: usize = 256 << 10;

/// An import under way.
pub(super) struct Import<'a> {
    sink: &'a Sink,
    intake: Intake<'a>,
    delay: Option<Duration>,
    batch: Vec<Arc<Event>>,
    /// The number of the line of each event of the batch, from 1.
    numbers: Vec<u64>,
    bytes: usize,
    accepted: u64,
    progress: Progress,
}

enum Line {
    Text(Vec<u8>),
    TooLong,
    End,
}

impl<'a> Import<'a> {
    pub(super) fn new(sink: &'a Sink, intake: Intake<'a>, delay: Option<Duration>) -> Self {
        let progress = Progress::new();
        Self { sink, intake, delay, batch: Vec::new(), numbers: Vec::new(), bytes: 0, accepted: 0, progress }
    }

    /// Reads to the end and prints what was accepted; also when it stops early.
    pub(super) fn run<R: Read>(mut self, reader: &mut BufReader<R>, output: &mut Output, as_json: bool) -> Result<(), CliError> {
        let mut ids = Ids { as_json, first: true };
        ids.open(output)?;
        let done = self.all(reader, output, &mut ids);
        drop(self.progress);
        ids.close(self.accepted, output)?;
        done
    }

    fn all<R: Read>(&mut self, reader: &mut BufReader<R>, output: &mut Output, ids: &mut Ids) -> Result<(), CliError> {
        let bound = STRUCTURED_BODY_MAX.max(self.intake.max_event.saturating_mul(2));
        for number in 1.. {
            let line = match next_line(reader, bound) {
                Ok(line) => line,
                Err(error) => {
                    self.flush(output, ids)?;
                    return Err(self.stop(number, &format!("stdin can't be read: {error}")));
                }
            };
            let read = match line {
                Line::End => return self.flush(output, ids),
                Line::Text(text) if text.trim_ascii().is_empty() => Ok(None),
                Line::Text(text) => event_of(text.trim_ascii(), &self.intake).map(Some),
                Line::TooLong => Err(format!("line is longer than {bound} bytes")),
            };
            match read {
                Ok(None) => {}
                Ok(Some(event)) => {
                    self.bytes += event.size();
                    self.batch.push(Arc::new(event));
                    self.numbers.push(number);
                }
                Err(why) => {
                    self.flush(output, ids)?;
                    return Err(self.stop(number, &why));
                }
            }
            let full = self.batch.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES;
            if full || !reader.buffer().contains(&b'\n') {
                self.flush(output, ids)?;
            }
        }
        Ok(())
    }

    /// Publishes what was gathered. When some of it is refused, what stands before that is published all the same.
    fn flush(&mut self, output: &mut Output, ids: &mut Ids) -> Result<(), CliError> {
        let (batch, numbers) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.numbers));
        self.bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let Err(stopped) = self.sink.publish(&batch, self.delay) else { return self.count(&batch, output, ids) };
        let Stopped { error, index, none_taken } = stopped;
        let line = |at: usize| numbers.get(at).copied().unwrap_or_default();
        if !none_taken {
            let last = line(batch.len().saturating_sub(1));
            let doubt =
                if batch.len() > 1 { format!(" (lines {} to {last} may have been taken)", line(0)) } else { String::new() };
            return Err(self.stop(line(0), &format!("{}{doubt}", text_of(&error))));
        }
        if matches!(error, CliError::Wrong(_)) && index.is_none() && self.accepted == 0 {
            // Not the line is wrong, but what was asked: there is no such queue, or it takes no delay.
            return Err(error);
        }
        let before = index.unwrap_or(batch.len()).min(batch.len());
        if batch.len() > 1 {
            // Alone, each is taken or is the first that is not.
            for (at, event) in batch.iter().take(before).enumerate() {
                if let Err(stopped) = self.sink.publish(std::slice::from_ref(event), self.delay) {
                    return Err(self.stop(line(at), &text_of(&stopped.error)));
                }
                self.count(std::slice::from_ref(event), output, ids)?;
            }
            if before == batch.len() {
                return Ok(());
            }
        }
        Err(self.stop(line(index.unwrap_or_default()), &text_of(&error)))
    }

    fn count(&mut self, events: &[Arc<Event>], output: &mut Output, ids: &mut Ids) -> Result<(), CliError> {
        self.accepted += events.len() as u64;
        self.progress.at(self.accepted);
        events.iter().try_for_each(|event| ids.add(&event.id, output))
    }

    fn stop(&self, number: u64, why: &str) -> CliError {
        let before = match self.accepted {
            1 => "1 event before it was".to_owned(),
            accepted => format!("{accepted} events before it were"),
        };
        CliError::Failed(format!("line {number} can't be taken: {why} ({before} accepted)"))
    }
}

/// An error's text without the word that says it is one.
fn text_of(error: &CliError) -> String {
    match error {
        CliError::Wrong(text) | CliError::Failed(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The ids as they are accepted: `{"ids":[…],"accepted":n}` for programs, one count for people.
struct Ids {
    as_json: bool,
    first: bool,
}

impl Ids {
    fn open(&self, output: &mut Output) -> Result<(), CliError> {
        if self.as_json { output.raw("{\"ids\":[") } else { Ok(()) }
    }

    fn add(&mut self, id: &str, output: &mut Output) -> Result<(), CliError> {
        if !self.as_json {
            return Ok(());
        }
        let comma = if std::mem::take(&mut self.first) { "" } else { "," };
        let id = serde_json::to_string(id).map_err(|error| CliError::Failed(error.to_string()))?;
        output.raw(&format!("{comma}{id}"))
    }

    fn close(&self, accepted: u64, output: &mut Output) -> Result<(), CliError> {
        if self.as_json {
            output.raw(&format!("],\"accepted\":{accepted}}}\n"))
        } else {
            output.line(&format!("accepted {accepted}"))
        }
    }
}

fn next_line(reader: &mut impl BufRead, bound: u64) -> std::io::Result<Line> {
    let mut text = Vec::new();
    let read = reader.by_ref().take(bound + 1).read_until(b'\n', &mut text)?;
    Ok(match read {
        0 => Line::End,
        _ if text.len() as u64 > bound && !text.ends_with(b"\n") => Line::TooLong,
        _ => Line::Text(text),
    })
}

fn event_of(text: &[u8], intake: &Intake) -> Result<Event, String> {
    source::accept(read(text, intake)?, intake).map_err(|problem| problem.to_string())
}

/// The event of one JSON object: a CloudEvent when it says `specversion`, with what it lacks filled in; else wrapped.
pub(in crate::cli) fn read(text: &[u8], intake: &Intake) -> Result<Event, String> {
    let fields: HashMap<String, &RawValue> =
        serde_json::from_slice(text).map_err(|error| format!("it is no JSON object: {error}"))?;
    if fields.contains_key("specversion") {
        let fresh = raw::envelope(intake);
        let mut whole = vec![b'{'];
        for (name, value) in [("id", &fresh.id), ("source", &fresh.source), ("time", fresh.time.as_ref().unwrap_or(&fresh.id))] {
            if !fields.contains_key(name) {
                whole.extend_from_slice(format!("\"{name}\":\"{value}\",").as_bytes());
            }
        }
        // The object is not empty, so what was put in front ends with the comma that it needs.
        whole.extend_from_slice(text.strip_prefix(b"{").unwrap_or(text));
        json::read(&whole).map_err(|error| error.to_string())
    } else {
        Ok(raw::wrap_json(Bytes::copy_from_slice(text), intake))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const INTAKE: Intake =
        Intake { queue: "events", kind: "com.example.raw", map: None, max_event: 1_000, now: Timestamp(1_500) };

    #[test]
    fn a_line_is_an_event_or_becomes_one() {
        let whole = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2020-01-01T00:00:00Z","data":{"n":1.50}}"#;
        assert_eq!(event_of(whole.as_bytes(), &INTAKE).unwrap(), json::read(whole.as_bytes()).unwrap());

        let partial = event_of(br#"{ "specversion":"1.0","type":"t","data":[1.50]}"#, &INTAKE).unwrap();
        assert_eq!((partial.kind.as_str(), partial.source.as_str()), ("t", "/weir/queue/events"));
        assert_eq!((partial.time.as_deref(), partial.data.as_deref()), (Some("1970-01-01T00:00:01.500Z"), Some(&b"[1.50]"[..])));
        assert!(!partial.id.is_empty());

        let wrapped = event_of(br#"{"type":"t","id":"1"}"#, &INTAKE).unwrap();
        assert_eq!((wrapped.kind.as_str(), wrapped.data.as_deref()), ("com.example.raw", Some(&br#"{"type":"t","id":"1"}"#[..])));
        assert!(event_of(b"{}", &INTAKE).is_ok());

        for (line, expected) in [
            ("[1]", "no JSON object"),
            ("{", "no JSON object"),
            ("{} {}", "no JSON object"),
            (r#"{"specversion":"1.0","id":"1"}"#, "`type` is missing"),
            (r#"{"specversion":"1.0","id":"","type":"t"}"#, "`id` is missing"),
            (r#"{"specversion":"1.0","type":"t","weirhops":1}"#, "Weir's own"),
            (&format!("{{\"a\":\"{}\"}}", "x".repeat(1_000)), "larger than `max-event`"),
        ] {
            let error = event_of(line.as_bytes(), &INTAKE).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn lines_are_bounded() {
        let mut reader = std::io::Cursor::new(b"12345\n123456\n");
        assert!(matches!(next_line(&mut reader, 5).unwrap(), Line::Text(text) if text == b"12345\n"));
        assert!(matches!(next_line(&mut reader, 5).unwrap(), Line::TooLong));
        let mut reader = std::io::Cursor::new(b"12345");
        assert!(matches!(next_line(&mut reader, 5).unwrap(), Line::Text(text) if text == b"12345"));
        assert!(matches!(next_line(&mut reader, 5).unwrap(), Line::End));
    }
}

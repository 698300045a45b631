//! What is shared while a configuration is read, and how single values are read. Which keys there are is for the sections.
//!
//! Whatever goes wrong is noted and answered with nothing, so that reading goes on and finds the next problem too.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::diagnostic::{Finding, Problem, Problems};
use super::interpolate::{Interpolated, Lookup, interpolate};
use super::load::Surroundings;
use super::tree::{Node, Place, Source, Value};
use super::values::{self, Form, fmt_duration, fmt_size};

/// What all sections share while a configuration is read.
pub(super) struct Reader<'e> {
    pub(super) sources: Vec<Source>,
    pub(super) surroundings: &'e Surroundings<'e>,
    pub(super) problems: Problems,
    /// Every key that was asked for, names of queues and handlers as `*`: what default.toml is compared with.
    pub(super) known: BTreeSet<String>,
}

/// A value that was there, with its key.
#[derive(Debug)]
pub(super) struct Field {
    /// The whole path.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) name: Place,
    pub(super) node: Node,
}

impl Field {
    /// An element of this list, or another value that goes by the same key.
    fn with(&self, node: Node) -> Self {
        Self { key: self.key.clone(), name: self.name.clone(), node }
    }
}

impl Reader<'_> {
    pub(super) fn report(&mut self, place: &Place, finding: Finding) {
        if let Some(source) = self.sources.get(place.source) {
            self.problems.push(Problem::new(place, source, finding));
        }
    }

    /// Notes that a value is not what it has to be.
    pub(super) fn refuse(&mut self, field: &Field, message: String, expected: String, note: Option<String>) {
        let finding = Finding { key: field.key.clone(), message, expected, notes: note.into_iter().collect(), found: None };
        self.report(&field.node.place, finding);
    }

    /// Notes that a value is not of its form.
    pub(super) fn refuse_form(&mut self, field: &Field, form: &Form, hint: String) {
        let note = Some(hint).filter(|hint| !hint.is_empty());
        self.refuse(field, format!("`{}` is not {}", field.key, form.noun), form.expected(), note);
    }

    /// Where relative paths of this value begin.
    pub(super) fn base(&self, field: &Field) -> PathBuf {
        self.sources.get(field.node.place.source).map(|source| source.base.clone()).unwrap_or_default()
    }

    /// Reads a text, `${…}` replaced, and what it says. A hint is told only where nothing was put in: it may repeat the text.
    pub(super) fn parse<T>(&mut self, field: &Field, form: &Form, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let done = self.text(field, form)?;
        match parse(&done.text) {
            Ok(value) => Some(value),
            Err(hint) => {
                let hint = if done.replaced.is_empty() {
                    hint
                } else {
                    format!("what was put in for `{}` is not shown", done.replaced.join("`, `"))
                };
                self.refuse_form(field, form, hint);
                None
            }
        }
    }

    /// Reads a text, `${…}` replaced.
    pub(super) fn text(&mut self, field: &Field, form: &Form) -> Option<Interpolated> {
        let written = match (&field.node.value, &field.node.typed) {
            (Value::Text(text), _) => text,
            (Value::Number(_) | Value::Flag(_) | Value::Float(_) | Value::Time(_), Some(typed)) => typed,
            (Value::Number(_), None) => {
                self.refuse_form(field, form, "a text stands in quotes".to_owned());
                return None;
            }
            _ => {
                self.refuse_form(field, form, String::new());
                return None;
            }
        };
        let base = self.base(field);
        match interpolate(written, &Lookup { variable: self.surroundings.env, base: &base }) {
            Ok(done) => Some(done),
            Err(fault) => {
                let place = self.place_of_piece(&field.node.place, &fault.piece);
                let message = format!("`{}`: {}", field.key, fault.message);
                self.report(&place, Finding { key: field.key.clone(), message, expected: fault.expected, ..Finding::default() });
                None
            }
        }
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, place: &Place) -> usize {
        let before = self.sources.get(place.source).and_then(|source| source.shown.get(..place.span.start));
        before.map_or(0, |before| before.matches('\n').count()) + 1
    }

    /// What stands at a place, secrets masked.
    pub(super) fn shown(&self, place: &Place) -> Option<&str> {
        self.sources.get(place.source).and_then(|source| source.shown.get(place.span.clone()))
    }

    /// A piece of a text, to underline it alone; the whole text where it is written in another way than it reads.
    fn place_of_piece(&self, place: &Place, piece: &str) -> Place {
        match self.shown(place).and_then(|shown| shown.find(piece)) {
            Some(at) => {
                let start = place.span.start + at;
                Place { source: place.source, span: start..start + piece.len() }
            }
            None => place.clone(),
        }
    }

    pub(super) fn list(&mut self, field: &Field, form: &Form) -> Option<Vec<Field>> {
        match &field.node.value {
            Value::List(items) => Some(items.iter().map(|item| field.with(item.clone())).collect()),
            _ => {
                self.refuse_form(field, form, String::new());
                None
            }
        }
    }

    pub(super) fn number(&mut self, field: &Field, range: &RangeInclusive<u64>) -> Option<u64> {
        let number = match &field.node.value {
            Value::Number(number) => number.and_then(|number| u64::try_from(number).ok()),
            _ => {
                let expected = format!("a number from {} to {}", range.start(), range.end());
                let quoted = matches!(&field.node.value, Value::Text(text) if text.parse::<u64>().is_ok());
                let note = quoted.then(|| "a number stands without quotes".to_owned());
                self.refuse(field, format!("`{}` is not a number", field.key), expected, note);
                return None;
            }
        };
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.refuse(field, format!("`{}` is out of range", field.key), expected, None);
        None
    }

    pub(super) fn size(&mut self, field: &Field, range: &RangeInclusive<u64>) -> Option<u64> {
        let size = self.parse(field, &values::SIZE, values::size)?;
        if range.contains(&size) {
            return Some(size);
        }
        let expected = format!("a size from `{}` to `{}`", fmt_size(*range.start()), fmt_size(*range.end()));
        self.refuse(field, format!("`{}` is out of range", field.key), expected, None);
        None
    }

    pub(super) fn duration(&mut self, field: &Field, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.parse(field, &values::DURATION, values::duration)?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let expected = format!("a duration from `{}` to `{}`", fmt_duration(*range.start()), fmt_duration(*range.end()));
        self.refuse(field, format!("`{}` is out of range", field.key), expected, None);
        None
    }
}

//! `*.test.toml`: cases of a handler for `weir test`, read as weir.toml is. Running them is for `cases.rs`.
//!
//! Texts stand as they are written, without `${…}`: a case says the same on every machine. What is a handler's (`config`, `grants`,
//! `limits`) is read by the readers of weir.toml, and is what it is there.

mod event;
mod expect;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::diagnostic::Problems;
use super::load::{Surroundings, process, read_file, read_source};
use super::reader::{Field, Reader};
use super::section::Section;
use super::tree::{Entry, Node, Table, Value};
use super::values::{self, Form};
use super::{Ceilings, ConfigValue, HandlerConfig, PublishGrant, handlers};
use crate::clock::Timestamp;
use crate::event::Event;

const HANDLER: Form = Form::new("the name of a handler", "of weir.toml, such as `\"email-notifier\"`");
const SUBJECT: Form = Form::new("the name of a handler", "of weir.toml; or `component`, the path of one");
const CASES: Form = Form::new("a list of tables", "each `[[case]]`");
const NAME: Form = Form::new("a text", "that says what the case shows");

/// The queue that events of a component come from where the file names none.
const QUEUE: &str = "events";

/// The name of a component's handler whose file can't give it one.
const NOBODY: &str = "test";

/// The cases of one file.
#[derive(Debug, Clone)]
pub struct CaseFile {
    /// What they are about.
    pub subject: Subject,
    /// In the order of the file.
    pub cases: Vec<Case>,
}

/// What cases are about.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A handler of weir.toml.
    Handler {
        /// Its name.
        name: String,
        /// Values of its configuration that the file replaces.
        config: Vec<(String, ConfigValue)>,
    },
    /// A component, with what the file says of it.
    Component {
        /// The name that it is told: its file's.
        name: String,
        /// As in `[handler.*]`.
        config: Box<HandlerConfig>,
    },
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Unique in its file.
    pub name: String,
    /// Where it stands, from 1.
    pub line: usize,
    /// Values of the handler's configuration that it replaces.
    pub config: Vec<(String, ConfigValue)>,
    /// What its clock shows when it begins; none: what time it is then.
    pub now: Option<Timestamp>,
    /// What happens, in order; never empty.
    pub steps: Vec<Step>,
    /// What is expected of the steps that expect nothing of their own.
    pub expect: Option<Expect>,
}

/// One thing that happens in a case.
#[derive(Debug, Clone)]
pub struct Step {
    /// How its clock goes on before.
    pub clock: Clock,
    /// The event that arrives; none: time passes and that is all. It may have no `id` and no `time` yet.
    pub event: Option<Arc<Event>>,
    /// What is expected of this step alone.
    pub expect: Option<Expect>,
}

/// How the clock of a case goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// It stands still.
    Still,
    /// To this time, which is not before the one that it shows.
    To(Timestamp),
    /// By so much.
    By(Duration),
}

/// What is expected of some runs of the handler.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// What they come to.
    pub outcome: Outcomes,
    /// What their reasons hold, together.
    pub reason: Vec<Check>,
    /// The limit that fired.
    pub limit: Option<String>,
    /// The wait that the last of them asked for.
    pub retry_after: Option<Duration>,
    /// Each used less fuel.
    pub fuel_below: Option<u64>,
    /// What their logs hold, together.
    pub log: Vec<Check>,
    /// What they mailed.
    pub email: Things,
    /// What they published.
    pub published: Things,
    /// What buckets hold after them, by name.
    pub buckets: Vec<(String, Test)>,
}

/// What runs come to, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outcomes {
    /// All of them to `done`, if there are any.
    #[default]
    Done,
    /// All of them to this, and there is one.
    All(String),
    /// Each in turn.
    Each(Vec<String>),
}

/// What is expected to have left.
#[derive(Debug, Clone)]
pub enum Things {
    /// Anything, or nothing.
    Any,
    /// These, in this order, and no other; each by what is checked of it.
    These(Vec<Vec<Check>>),
}

/// Nothing.
impl Default for Things {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

/// One thing that is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// As the file names it: `subject-contains`.
    pub key: String,
    /// Of which value of the thing.
    pub of: &'static str,
    /// How.
    pub test: Test,
}

/// How a value is checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It is this.
    Is(Json),
    /// It is a text that holds each of these.
    Contains(Vec<String>),
    /// It is a text that holds none of these, or nothing.
    Lacks(Vec<String>),
    /// It has these keys with these values, and perhaps others: so on down.
    Has(Json),
}

/// Reads a file of cases, in the process's own surroundings.
///
/// # Errors
/// All that is wrong with it.
pub fn load_cases(file: &Path) -> Result<CaseFile, Problems> {
    let surroundings = process()?;
    let text = read_file(file, &surroundings, "the path of a file of cases")?;
    read_text(&text, file, &surroundings)
}

pub(super) fn read_text(text: &str, file: &Path, surroundings: &Surroundings<'_>) -> Result<CaseFile, Problems> {
    let (mut reader, table) = read_source(text, file, surroundings);
    let read = table.and_then(|mut table| {
        let component = prepare(&mut table);
        Section::root(&mut reader, table, |root| cases(root, component))
    });
    let problems = reader.problems.of("the test file");
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => Err(problems.sorted()),
    }
}

/// What a file says of its own component, beside what it leaves to Weir.
struct Own {
    name: String,
    queues: BTreeSet<String>,
}

/// Fills in what a component needs in weir.toml and not in a test: a queue, and a relay that no mail reaches. Its grant may name any queue.
fn prepare(table: &mut Table) -> Option<Own> {
    let component = table.get("component")?;
    let place = component.key.clone();
    let Value::Text(path) = &component.node.value else { return Some(Own { name: NOBODY.to_owned(), queues: BTreeSet::new() }) };
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).map(|stem| stem.replace('_', "-"));
    let name = stem.filter(|stem| values::is_name(stem)).unwrap_or_else(|| NOBODY.to_owned());
    let text = |text: &str| {
        let node = Node { value: Value::Text(text.to_owned()), place: place.clone(), typed: None };
        Entry { key: place.clone(), node }
    };
    let mut queues = BTreeSet::new();
    collect(&table.entry("queue".to_owned()).or_insert_with(|| text(QUEUE)).node, &mut queues);
    if let Some(Value::Table(grants)) = table.get_mut("grants").map(|grants| &mut grants.node.value) {
        if let Some(Value::Table(email)) = grants.get_mut("email").map(|email| &mut email.node.value) {
            email.entry("relay".to_owned()).or_insert_with(|| text("file:./outbox"));
        }
        if let Some(publish) = grants.get("publish") {
            collect(&publish.node, &mut queues);
        }
    }
    queues.remove(PublishGrant::OWN);
    Some(Own { name, queues })
}

/// Adds the names in a text or a list of them.
fn collect(node: &Node, names: &mut BTreeSet<String>) {
    match &node.value {
        Value::Text(name) if values::is_name(name) => drop(names.insert(name.clone())),
        Value::List(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}

fn cases(root: &mut Section<'_, '_>, own: Option<Own>) -> Option<CaseFile> {
    let handler = root.take("handler");
    let subject = match (handler, own) {
        (Some(field), Some(_)) => {
            let message = "`handler` and `component` are two subjects".to_owned();
            root.reader.refuse(&field, message, "one of the two".to_owned(), None);
            root.drain();
            return None;
        }
        (Some(field), None) => {
            let config = root.optional("config", handlers::values).unwrap_or_default();
            let name = text(root.reader, &field, &HANDLER);
            name.map(|name| Subject::Handler { name, config })
        }
        (None, Some(own)) => {
            let config = handlers::handler(root, &own.queues, &Ceilings::default());
            config.map(|config| Subject::Component { name: own.name, config: Box::new(config) })
        }
        (None, None) => {
            root.missing("handler", &SUBJECT);
            root.optional("config", handlers::values);
            None
        }
    };
    let cases = match root.take("case") {
        Some(field) => root.reader.list(&field, &CASES)?,
        None => {
            root.missing("case", &CASES);
            return None;
        }
    };
    let (pattern, mut names) = (root.any(), BTreeMap::new());
    let read: Vec<Option<Case>> =
        cases.into_iter().map(|field| root.descend(here(field), pattern.clone(), |section| case(section, &mut names))).collect();
    Some(CaseFile { subject: subject?, cases: read.into_iter().collect::<Option<_>>()? })
}

/// An element of a list: what is missing in it is missing there, not where the list begins.
fn here(field: Field) -> Field {
    Field { name: field.node.place.clone(), ..field }
}

fn case(section: &mut Section<'_, '_>, names: &mut BTreeMap<String, usize>) -> Option<Case> {
    let line = section.line();
    let name = match section.take("name") {
        Some(field) => {
            let name = text(section.reader, &field, &NAME).map(|name| name.trim().to_owned());
            match name.as_ref().and_then(|name| names.insert(name.clone(), line)) {
                Some(first) => {
                    let message = format!("another case has this name, in line {first}");
                    section.reader.refuse(&field, message, "a name of its own".to_owned(), None);
                }
                None if name.as_ref().is_some_and(String::is_empty) => {
                    section.reader.refuse_form(&field, &NAME, String::new());
                }
                None => {}
            }
            name
        }
        None => {
            section.missing("name", &NAME);
            None
        }
    };
    let config = section.optional("config", handlers::values).unwrap_or_default();
    let now = steps::time(section, "now");
    let steps = steps::read(section, now);
    let expect = section.optional("expect", expect::read);
    let (now, steps) = steps?;
    Some(Case { name: name?, line, config, now, steps, expect })
}

/// A text as it is written.
fn text(reader: &mut Reader<'_>, field: &Field, form: &Form) -> Option<String> {
    match &field.node.value {
        Value::Text(text) => Some(text.clone()),
        _ => {
            reader.refuse_form(field, form, String::new());
            None
        }
    }
}

/// A value as JSON; a date is a text.
fn json(reader: &mut Reader<'_>, field: &Field, node: &Node) -> Option<Json> {
    let number = |number: Option<serde_json::Number>| number.map(Json::Number);
    let read = match &node.value {
        Value::Text(text) | Value::Time(text) => Some(Json::String(text.clone())),
        Value::Flag(flag) => Some(Json::Bool(*flag)),
        Value::Number(whole) => number(whole.map(Into::into)),
        Value::Float(float) => number(serde_json::Number::from_f64(*float)),
        Value::List(items) => return items.iter().map(|item| json(reader, field, item)).collect::<Option<_>>().map(Json::Array),
        Value::Table(table) => {
            let entry = |(name, entry): (&String, &Entry)| Some((name.clone(), json(reader, field, &entry.node)?));
            return table.iter().map(entry).collect::<Option<_>>().map(Json::Object);
        }
        Value::Taken => None,
    };
    if read.is_none() {
        let at = Field { key: field.key.clone(), name: field.name.clone(), node: node.clone() };
        reader.refuse(&at, format!("`{}` holds a number that JSON has not", field.key), "a number of 64 bits".to_owned(), None);
    }
    read
}

/// The weir.toml that a file of cases means: the nearest one, in its folder or above.
#[must_use]
pub fn nearest_config(file: &Path, name: &str) -> Option<PathBuf> {
    let folder = std::path::absolute(file).ok()?;
    folder.ancestors().skip(1).map(|folder| folder.join(name)).find(|config| config.is_file())
}

#[cfg(test)]
mod tests;

//! A file of cases as a whole: its subject, its cases, and the values that all of them share ways of reading.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::super::diagnostic::Problems;
use super::super::load::{Surroundings, process, read_file, read_source};
use super::super::reader::{Field, Reader};
use super::super::section::Section;
use super::super::tree::{Entry, Node, Table, Value};
use super::super::values::{self, Form};
use super::super::{Ceilings, PublishGrant, handlers};
use super::{Case, CaseFile, Subject, answers, expect, steps};

const HANDLER: Form = Form::new("the name of a handler", "of weir.toml, such as `\"email-notifier\"`");
const SUBJECT: Form = Form::new("the name of a handler", "of weir.toml; or `component`, the path of one");
const CASES: Form = Form::new("a list of tables", "each `[[case]]`");
const NAME: Form = Form::new("a text", "that says what the case shows");

/// The queue that events of a component come from where the file names none.
const QUEUE: &str = "events";

/// The name of a component's handler whose file can't give it one.
const NOBODY: &str = "test";

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
pub(super) fn here(field: Field) -> Field {
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
    let http = answers::read(section);
    let steps = steps::read(section, now);
    let expect = section.optional("expect", expect::read);
    let (now, steps) = steps?;
    Some(Case { name: name?, line, config, now, http, steps, expect })
}

/// A text as it is written.
pub(super) fn text(reader: &mut Reader<'_>, field: &Field, form: &Form) -> Option<String> {
    match &field.node.value {
        Value::Text(text) => Some(text.clone()),
        _ => {
            reader.refuse_form(field, form, String::new());
            None
        }
    }
}

/// A value as JSON; a date is a text.
pub(super) fn json(reader: &mut Reader<'_>, field: &Field, node: &Node) -> Option<Json> {
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

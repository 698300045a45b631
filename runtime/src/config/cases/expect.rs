//! `expect`: what is to come of the runs of a case.

use std::time::Duration;

use serde_json::Value as Json;

use super::super::diagnostic::Finding;
use super::super::reader::Field;
use super::super::section::{Section, nearest};
use super::super::tree::Value;
use super::super::values::{Form, fmt_duration};
use super::file::{here, json, text};
use super::{Check, Expect, Outcomes, Test, Things, steps};
use crate::cases::ENDS;
use crate::outcome::Outcome;

const OUTCOME: Form = Form::new("an outcome", "such as `\"done\"`; or a list, one for each run");
const TEXTS: Form = Form::new("a text", "or a list of texts");
const LIST: Form = Form::new("a list of texts", "such as `[\"ann@example.com\"]`");
const THINGS: Form = Form::new("a list of tables,", "each with what is checked of one; or `\"any\"`");
const TABLE: Form = Form::new("a table", "of keys and their values");

/// Ten years, as durations are bounded everywhere.
const WAIT_MAX: Duration = Duration::from_secs(3_650 * 24 * 3_600);

/// Texts that are checked whole or in part.
const MAIL_TEXTS: [[&str; 3]; 5] = [
    ["from", "from-contains", "from-lacks"],
    ["subject", "subject-contains", "subject-lacks"],
    ["text", "text-contains", "text-lacks"],
    ["html", "html-contains", "html-lacks"],
    ["key", "key-contains", "key-lacks"],
];
const MAIL_LISTS: [&str; 5] = ["to", "cc", "bcc", "reply-to", "attachments"];
const EVENT_TEXTS: [[&str; 3]; 4] = [
    ["queue", "queue-contains", "queue-lacks"],
    ["type", "type-contains", "type-lacks"],
    ["subject", "subject-contains", "subject-lacks"],
    ["source", "source-contains", "source-lacks"],
];
const REQUEST_TEXTS: [[&str; 3]; 2] = [["url", "url-contains", "url-lacks"], ["body", "body-contains", "body-lacks"]];
const EVENT_ATTRIBUTES: [&str; 4] = ["id", "time", "datacontenttype", "dataschema"];

pub(super) fn read(section: &mut Section<'_, '_>) -> Expect {
    Expect {
        outcome: outcomes(section).unwrap_or_default(),
        reason: texts(section, "reason", ["reason", "reason-contains", "reason-lacks"]),
        limit: section.take("limit").and_then(|field| text(section.reader, &field, &TEXTS)),
        retry_after: section.optional("retry", |retry| retry.duration("after", Duration::ZERO..=WAIT_MAX)).flatten(),
        fuel_below: section.take("fuel-below").and_then(|field| section.whole(&field)),
        log: texts(section, "log", ["log", "log-contains", "log-lacks"]),
        email: things(section, "email", mail),
        published: things(section, "published", event),
        http: things(section, "http", request),
        buckets: [("keyvalue", Test::Is as fn(Json) -> Test), ("keyvalue-contains", Test::Has)]
            .into_iter()
            .flat_map(|(name, test)| buckets(section, name, test))
            .collect(),
    }
}

fn outcomes(section: &mut Section<'_, '_>) -> Option<Outcomes> {
    let field = section.take("outcome")?;
    match &field.node.value {
        Value::List(_) => {
            let items = section.reader.list(&field, &OUTCOME)?;
            items.iter().map(|item| outcome(section, item)).collect::<Option<_>>().map(Outcomes::Each)
        }
        _ => outcome(section, &field).map(Outcomes::All),
    }
}

fn outcome(section: &mut Section<'_, '_>, field: &Field) -> Option<String> {
    let name = text(section.reader, field, &OUTCOME)?;
    let known = || Outcome::NAMES.into_iter().chain(ENDS);
    if known().any(|known| known == name) {
        return Some(name);
    }
    let near = nearest(&name, known()).filter(|(_, alike)| *alike);
    let listed: Vec<String> = known().map(|name| format!("`{name}`")).collect();
    let notes = near.map(|(near, _)| format!("did you mean `{near}`?"));
    let finding = Finding {
        key: field.key.clone(),
        message: format!("`{}` is no outcome", field.key),
        expected: "an outcome".to_owned(),
        notes: notes.into_iter().chain([format!("known here: {}", listed.join(", "))]).collect(),
        found: None,
    };
    section.reader.report(&field.node.place, finding);
    None
}

fn things(section: &mut Section<'_, '_>, name: &'static str, one: fn(&mut Section<'_, '_>) -> Vec<Check>) -> Things {
    let Some(field) = section.take(name) else { return Things::default() };
    if matches!(&field.node.value, Value::Text(text) if text == "any") {
        return Things::Any;
    }
    let Some(items) = section.reader.list(&field, &THINGS) else { return Things::Any };
    let pattern = section.any();
    Things::These(items.into_iter().map(|item| section.descend(here(item), pattern.clone(), |section| one(section))).collect())
}

fn mail(section: &mut Section<'_, '_>) -> Vec<Check> {
    let mut checks: Vec<Check> = MAIL_LISTS.iter().filter_map(|name| list(section, name)).collect();
    for names in MAIL_TEXTS {
        checks.extend(texts(section, names[0], names));
    }
    // Whoever writes no name means the address.
    for check in &mut checks {
        if check.key == "from" && matches!(&check.test, Test::Is(Json::String(from)) if !from.contains('<')) {
            check.of = "sender";
        }
    }
    checks.extend(has(section, "headers", "headers"));
    checks
}

fn event(section: &mut Section<'_, '_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for names in EVENT_TEXTS {
        checks.extend(texts(section, names[0], names));
    }
    for name in EVENT_ATTRIBUTES {
        checks.extend(texts(section, name, [name, "", ""]));
    }
    if let Some(field) = section.take("data") {
        let data = json(section.reader, &field, &field.node);
        checks.extend(data.map(|data| check("data", "data", Test::Is(data))));
    }
    checks.extend(has(section, "data-contains", "data"));
    checks.extend(has(section, "extensions", "extensions"));
    let after = section.duration("after", Duration::ZERO..=WAIT_MAX);
    checks.extend(after.map(|after| check("after", "after", Test::Is(fmt_duration(after).into()))));
    let at = steps::time(section, "at");
    checks.extend(at.map(|at| check("at", "at", Test::Is(at.to_string().into()))));
    checks
}

fn request(section: &mut Section<'_, '_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for names in REQUEST_TEXTS {
        checks.extend(texts(section, names[0], names));
    }
    checks.extend(texts(section, "method", ["method", "", ""]));
    if let Some(field) = section.take("json") {
        let body = json(section.reader, &field, &field.node);
        checks.extend(body.map(|body| check("json", "json", Test::Is(body))));
    }
    checks.extend(has(section, "json-contains", "json"));
    checks.extend(has(section, "headers", "headers"));
    checks
}

/// What buckets hold: `{ digest = { key = "value" } }`.
fn buckets(section: &mut Section<'_, '_>, name: &'static str, test: fn(Json) -> Test) -> Vec<(String, Test)> {
    let read = |section: &mut Section<'_, '_>| {
        let _ = section.any();
        let mut read = Vec::new();
        for (bucket, field) in section.drain() {
            if !matches!(field.node.value, Value::Table(_)) {
                section.reader.refuse_form(&field, &TABLE, String::new());
            } else if let Some(held) = json(section.reader, &field, &field.node) {
                read.push((bucket, test(held)));
            }
        }
        read
    };
    section.optional(name, read).unwrap_or_default()
}

fn check(key: &str, of: &'static str, test: Test) -> Check {
    Check { key: key.to_owned(), of, test }
}

/// `x`, `x-contains` and `x-lacks`; an empty name is none.
fn texts(section: &mut Section<'_, '_>, of: &'static str, [whole, contains, lacks]: [&'static str; 3]) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(field) = section.take(whole) {
        let read = text(section.reader, &field, &super::super::values::TEXT);
        checks.extend(read.map(|text| check(whole, of, Test::Is(text.into()))));
    }
    for (name, test) in [(contains, Test::Contains as fn(Vec<String>) -> Test), (lacks, Test::Lacks)] {
        if let Some(field) = Some(name).filter(|name| !name.is_empty()).and_then(|name| section.take(name)) {
            checks.extend(strings(section, &field, &TEXTS).map(|texts| check(name, of, test(texts))));
        }
    }
    checks
}

/// A text or a list of texts.
fn strings(section: &mut Section<'_, '_>, field: &Field, form: &Form) -> Option<Vec<String>> {
    match &field.node.value {
        Value::List(_) => {
            let items = section.reader.list(field, form)?;
            items.iter().map(|item| text(section.reader, item, form)).collect()
        }
        _ => text(section.reader, field, form).map(|text| vec![text]),
    }
}

fn list(section: &mut Section<'_, '_>, name: &'static str) -> Option<Check> {
    let field = section.take(name)?;
    let texts = strings(section, &field, &LIST)?;
    Some(check(name, name, Test::Is(texts.into())))
}

/// Keys that a table has, beside others.
fn has(section: &mut Section<'_, '_>, key: &'static str, of: &'static str) -> Option<Check> {
    let field = section.take(key)?;
    if !matches!(field.node.value, Value::Table(_)) {
        section.reader.refuse_form(&field, &TABLE, String::new());
        return None;
    }
    let table = json(section.reader, &field, &field.node)?;
    Some(check(key, of, Test::Has(table)))
}

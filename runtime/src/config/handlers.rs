//! `[handler.*]`. Whether its component is there and fits is the app's to say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::batch::{self, Batch};
use super::diagnostic::Finding;
use super::interpolate::Interpolated;
use super::reader::Field;
use super::section::Section;
use super::tree::Value;
use super::values::{BACKOFF, Form, TEXT, backoff};
use super::{Ceilings, ConfigValue, HandlerConfig, RetryPolicy, Secret, filter, grants, limits, queues, server};

const COMPONENT: Form = Form::new("the path of a component", "such as `handlers/email-notifier.wasm`");
const FILE: Form = Form::new("the path of a file", "such as `email-rules.toml`");
const ORDER_BY: Form = Form::new("the name of an attribute", "such as `subject` or `partitionkey`: letters a-z and digits");
const ISOLATION: Form = Form::new("an isolation", "`\"fresh\"`");

/// The default of `concurrency` on each core: handlers wait for relays more than they compute.
const CONCURRENCY_PER_CORE: usize = 4;

/// More tries than anybody needs; a misplaced digit is told.
const ATTEMPTS_MAX: u32 = 1_000;

/// A wait longer than this is a forgotten event.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// More failures in a row than anybody waits for; 0 is how to say never.
const PAUSE_AFTER_MAX: u32 = 1_000_000;

/// Below it an event could be too old, or forgotten, before it is taken out of its queue.
const AGE_MIN: Duration = Duration::from_millis(1);

/// The store keeps each event of the window: a month of them is a mistake.
const DUPLICATES_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);

pub(super) fn read(
    root: &mut Section<'_, '_>,
    queues: &BTreeSet<String>,
    ceilings: &Ceilings,
) -> BTreeMap<String, HandlerConfig> {
    let read = root.named("handler", |_, section| handler(section, queues, ceilings));
    read.into_iter().filter_map(|(name, config)| Some((name, config?))).collect()
}

pub(super) fn handler(section: &mut Section<'_, '_>, known: &BTreeSet<String>, ceilings: &Ceilings) -> Option<HandlerConfig> {
    section.later(&["trial", "digest"]);
    let component = match section.take("component") {
        Some(field) => path(section, &field, &COMPONENT),
        None => {
            section.missing("component", &COMPONENT);
            None
        }
    };
    let queues = queues::names(section, known);
    let (run, batch) = (batch::export(section), batch::read(section));
    let needs =
        limits::Needs { queues: queues.as_ref().map_or(1, Vec::len).max(1), batch: batch.as_ref().map_or(1, Batch::size) };
    let concurrency = limits::concurrency(section, CONCURRENCY_PER_CORE, &needs, ceilings);
    let batch = batch.and_then(|batch| batch.fits(section, run, concurrency as usize / needs.queues));
    let filter = filter::read(section);
    let paused = section.flag("paused").unwrap_or(false);
    let parked = limits::parked(section, ceilings);
    let order_by = section.parsed("order-by", &ORDER_BY, attribute);
    let expires = section.duration("expires", AGE_MIN..=WAIT_MAX);
    let duplicates = section.duration("duplicates", AGE_MIN..=DUPLICATES_MAX);
    refuse_other_isolation(section);
    let (limits, limit_sources) = section.section("limits", |section| limits::read(section, ceilings));
    let retry = section.section("retry", retry);
    let config = section.section("config", values);
    let grants = section.section("grants", |section| grants::read(section, known));
    Some(HandlerConfig {
        component: component?,
        queues: queues?,
        concurrency,
        filter,
        paused,
        parked,
        order_by,
        expires,
        duplicates,
        run,
        batch,
        limits,
        limit_sources,
        retry,
        config,
        grants,
    })
}

/// The name of an attribute or extension that can order events.
pub(super) fn attribute(text: &str) -> Result<String, String> {
    match text {
        "data" => Err("order is by an attribute; data is not looked into".to_owned()),
        "id" | "time" | "specversion" => Err(format!("`{text}` does not group events")),
        _ if !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) => Ok(text.to_owned()),
        _ => Err(String::new()),
    }
}

/// A path as it is written in a text, absolute.
pub(super) fn path(section: &mut Section<'_, '_>, field: &Field, form: &Form) -> Option<PathBuf> {
    let base = section.reader.base(field);
    section.reader.parse(field, form, |text| match server::path(text)? {
        folder if folder.ends_with('/') || folder == "." || folder.ends_with("..") => Err("it names a folder".to_owned()),
        file => Ok(base.join(file)),
    })
}

fn refuse_other_isolation(section: &mut Section<'_, '_>) {
    let Some(field) = section.take("isolation") else { return };
    if matches!(field.node.value, Value::Table(_)) {
        refuse_value(section, &field, "isolation", "`\"fresh\"`");
    } else {
        section.reader.parse(&field, &ISOLATION, |text| if text == "fresh" { Ok(()) } else { Err(String::new()) });
    }
}

/// Refuses a value that only a later version has.
pub(super) fn refuse_value(section: &mut Section<'_, '_>, field: &Field, name: &str, now: &str) {
    let finding = Finding {
        key: field.key.clone(),
        message: format!("`{name}`: not in this version yet"),
        expected: format!("{now}; others are not in this version yet"),
        ..Finding::default()
    };
    section.reader.report(&field.node.place, finding);
}

fn retry(section: &mut Section<'_, '_>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let (backoff_from, backoff_to) =
        section.parsed("backoff", &BACKOFF, backoff).unwrap_or((default.backoff_from, default.backoff_to));
    RetryPolicy {
        attempts: section.number("attempts", 1..=ATTEMPTS_MAX).unwrap_or(default.attempts),
        trap: section.number("trap", 1..=ATTEMPTS_MAX).unwrap_or(default.trap),
        backoff_from,
        backoff_to,
        after_max: section.duration("after-max", Duration::ZERO..=WAIT_MAX).unwrap_or(default.after_max),
        outage: section.duration("outage", Duration::ZERO..=WAIT_MAX).unwrap_or(default.outage),
        pause_after: section.number("pause-after", 0..=PAUSE_AFTER_MAX).unwrap_or(default.pause_after),
    }
}

/// `[handler.*.config]`: whatever keys the handler wants; each a text, or `{ file = … }`.
pub(super) fn values(section: &mut Section<'_, '_>) -> Vec<(String, ConfigValue)> {
    const VALUE: Form = Form::new("a text or a file", "such as `\"QA\"` or `{ file = \"rules.toml\" }`");
    let pattern = section.any();
    let mut values = Vec::new();
    for (name, field) in section.drain() {
        let value = match &field.node.value {
            Value::Table(_) => section.descend(field, pattern.clone(), file).map(ConfigValue::File),
            Value::Text(_) => section.reader.text(&field, &TEXT).map(text),
            _ => section.reader.text(&field, &VALUE).map(text),
        };
        values.extend(value.map(|value| (name, value)));
    }
    values
}

/// A text that values were put into is known as such.
fn text(done: Interpolated) -> ConfigValue {
    if done.values.is_empty() {
        return ConfigValue::Text(done.text);
    }
    ConfigValue::Secret { text: Secret(done.text), values: done.values.into_iter().map(Secret).collect() }
}

/// `{ file = … }`: its text is passed as it is.
fn file(section: &mut Section<'_, '_>) -> Option<PathBuf> {
    let Some(field) = section.take("file") else {
        section.missing("file", &FILE);
        return None;
    };
    path(section, &field, &FILE)
}

//! `http` of a case: what the requests of its handler are answered.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value as Json;

use super::super::section::Section;
use super::super::tree::Value;
use super::super::values::Form;
use super::file::{here, json};
use crate::outgoing::Answered;

const ANSWERS: Form = Form::new(
    "a list of answers",
    "such as `[{ status = 200, body = \"ok\" }]`: one for each request, the last one for the rest",
);
const HEADERS: Form = Form::new("a table of headers", "such as `{ content-type = \"text/plain\" }`");

/// Reads them; none where nothing is answered.
pub(super) fn read(section: &mut Section<'_, '_>) -> Vec<Answered> {
    let Some(field) = section.take("http") else { return Vec::new() };
    let Some(items) = section.reader.list(&field, &ANSWERS) else { return Vec::new() };
    if items.is_empty() {
        section.reader.refuse_form(&field, &ANSWERS, "without one every request is denied: leave `http` out".to_owned());
    }
    let pattern = section.below("http");
    items.into_iter().map(|item| section.descend(here(item), pattern.clone(), answer)).collect()
}

fn answer(section: &mut Section<'_, '_>) -> Answered {
    let status = section.number("status", 200..=599).and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    let headers = section.optional("headers", headers).unwrap_or_default();
    let body = section.take("body").and_then(|field| match &field.node.value {
        Value::Text(text) => Some(Bytes::from(text.clone())),
        _ => json(section.reader, &field, &field.node).map(|body| Bytes::from(body.to_string())),
    });
    Answered { status, headers, body: body.unwrap_or_default() }
}

fn headers(section: &mut Section<'_, '_>) -> BTreeMap<String, String> {
    let _ = section.any();
    let mut headers = BTreeMap::new();
    for (name, field) in section.drain() {
        match json(section.reader, &field, &field.node) {
            Some(Json::String(value)) => drop(headers.insert(name.to_ascii_lowercase(), value)),
            Some(Json::Number(value)) => drop(headers.insert(name.to_ascii_lowercase(), value.to_string())),
            Some(_) => section.reader.refuse_form(&field, &HEADERS, String::new()),
            None => {}
        }
    }
    headers
}

//! `[handler.*.grants] http`: which requests a handler may make. What a grant covers is judged by `outgoing`.

use crate::outgoing::{HttpGrant, METHODS, Pattern};

use super::reader::Field;
use super::section::Section;
use super::values::Form;

const HTTP: Form =
    Form::new("a list of what may be asked", "such as `[{ url = \"https://api.example.com/v1/*\", methods = [\"POST\"] }]`");
const URL: Form = Form::new("an address that may be asked", "such as `https://api.example.com/v1/*`: all below that path");
const METHOD_LIST: Form = Form::new("a list of methods", "such as `[\"GET\", \"POST\"]`");
const METHOD: Form = Form::new("a method", "`GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`");

pub(super) fn read(section: &mut Section<'_, '_>) -> Vec<HttpGrant> {
    let Some(field) = section.take("http") else { return Vec::new() };
    let Some(items) = section.reader.list(&field, &HTTP) else { return Vec::new() };
    if items.is_empty() {
        refuse_empty(section, &field, &HTTP, "without an address nothing can be asked: take the grant out instead");
    }
    let pattern = section.below("http");
    items.into_iter().filter_map(|item| section.descend(item, pattern.clone(), grant)).collect()
}

fn grant(section: &mut Section<'_, '_>) -> Option<HttpGrant> {
    let url = match section.take("url") {
        Some(field) => section.reader.parse(&field, &URL, Pattern::parse),
        None => {
            section.missing("url", &URL);
            None
        }
    };
    let methods = match section.take("methods") {
        Some(field) => methods(section, &field),
        None => {
            section.missing("methods", &METHOD_LIST);
            None
        }
    };
    Some(HttpGrant { url: url?, methods: methods? })
}

fn methods(section: &mut Section<'_, '_>, field: &Field) -> Option<Vec<String>> {
    let items = section.reader.list(field, &METHOD_LIST)?;
    if items.is_empty() {
        refuse_empty(section, field, &METHOD_LIST, "without a method nothing can be asked: take the grant out instead");
    }
    Some(items.iter().filter_map(|item| section.reader.parse(item, &METHOD, method)).collect())
}

fn method(text: &str) -> Result<String, String> {
    let capitals = text.to_ascii_uppercase();
    match METHODS.contains(&text) {
        true => Ok(text.to_owned()),
        false if METHODS.contains(&capitals.as_str()) => Err(format!("did you mean `{capitals}`?")),
        false => Err(String::new()),
    }
}

fn refuse_empty(section: &mut Section<'_, '_>, field: &Field, form: &Form, note: &str) {
    section.reader.refuse(field, format!("`{}` is an empty list", field.key), form.expected(), Some(note.to_owned()));
}

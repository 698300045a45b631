//! Values of a rule's keys that are more than one text.

use toml::de::DeValue;

use super::table::{self, Table};
use super::{LAYOUT_KEYS, Layout, MAIL_KEYS, Mail, Mistake};
use crate::recipients::Who;

/// The value of a key that has a notation of its own.
pub(super) fn parsed<'r, T>(table: &Table<'r>, key: &str, parse: fn(&'r str) -> Result<T, String>) -> Result<Option<T>, Mistake> {
    table.string(key)?.map(parse).transpose().map_err(|e| table.wrong(key, e))
}

pub(super) fn unless<'r>(table: &Table<'r>) -> Result<Vec<&'r str>, Mistake> {
    let types = table.get("unless").map(|_| table.required_strings("unless")).transpose()?;
    match types {
        Some(types) if types.is_empty() => {
            Err(table.wrong("unless", "is empty (expected a type, or a list of types)".to_owned()))
        }
        types => Ok(types.unwrap_or_default()),
    }
}

/// One recipient or a list of them: see [`Who`].
pub(super) fn who<'r>(table: &Table<'r>, key: &str) -> Result<Vec<Who<'r>>, Mistake> {
    let one = |value: &'r DeValue<'r>| match value {
        DeValue::String(text) => Who::parse(text).map_err(|e| table.wrong(key, e)),
        DeValue::Table(inner) => {
            let inner = table.inner(key, inner);
            inner.only(&["email", "name"])?;
            let email = inner.required("email")?;
            Who::from_parts(email, inner.string("name")?).map_err(|e| inner.wrong("email", e))
        }
        other => {
            let expected = "an address, a path such as \"data.owner\", or { email = \"…\", name = \"…\" }";
            Err(table.wrong(key, format!("{} is no recipient (expected {expected})", table::kind(other))))
        }
    };
    match table.get(key) {
        None => Ok(Vec::new()),
        Some(DeValue::Array(list)) => list.iter().map(|value| one(value.get_ref())).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}

pub(super) fn layout<'r>(file: &Table<'r>, table: &Table<'r>) -> Result<Option<Layout<'r>>, Mistake> {
    let Some(name) = table.string("layout")? else { return Ok(None) };
    let layouts = file.table("layouts")?;
    let Some(layout) = layouts.as_ref().map(|layouts| layouts.table(name)).transpose()?.flatten() else {
        let known = layouts.map(|layouts| layouts.keys().join("`, `")).unwrap_or_default();
        return Err(table.wrong("layout", format!("`{name}` is not defined (known: `{known}`)")));
    };
    let layout = layout.named(format!("layout `{name}`"));
    layout.only(&LAYOUT_KEYS)?;
    Ok(Some(Layout { text: layout.string("text")?, html: layout.string("html")? }))
}

pub(super) fn headers<'r>(table: &Table<'r>) -> Result<Vec<(&'r str, &'r str)>, Mistake> {
    let Some(headers) = table.table("headers")? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for name in headers.keys() {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(headers.wrong(name, "not the name of a header (expected letters, digits and `-`)".to_owned()));
        }
        all.push((name, headers.required(name)?));
    }
    Ok(all)
}

pub(super) fn mails<'r>(table: &Table<'r>) -> Result<Vec<(&'r str, Mail<'r>)>, Mistake> {
    let example = "expected a table for each locale, such as [rule.mail.en]";
    let Some(locales) = table.table("mail")? else { return Err(table.wrong("mail", format!("is missing ({example})"))) };
    let mut mails = Vec::new();
    for locale in locales.keys() {
        let Some(mail) = locales.table(locale)? else { continue };
        mail.only(&MAIL_KEYS)?;
        let (text, html) = (mail.string("text")?, mail.string("html")?);
        if text.is_none() && html.is_none() {
            return Err(mail.wrong("text", "is missing, and so is `html` (expected one or both)".to_owned()));
        }
        mails.push((locale, Mail { subject: mail.required("subject")?, text, html }));
    }
    if mails.is_empty() {
        return Err(table.wrong("mail", format!("is empty ({example})")));
    }
    Ok(mails)
}

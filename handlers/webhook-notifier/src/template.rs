//! Templates of addresses, headers and bodies: minijinja with nothing that turns escaping off, and no way to print what is not there.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde_json::json;
use weir_sdk::{Bytes, Event, Failure, reject};

use crate::rules::{Body, Rule};

/// Longest value of a header, in characters: servers take lines of 8 KiB.
const LINE_CHARS_MAX: usize = 1000;

/// What a template becomes; decides how values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Text,
    /// Values as JSON, texts with their quotes.
    Json,
    /// Values percent-encoded.
    Address,
}

impl Form {
    /// Of a body with this media type.
    pub(crate) fn of_body(content_type: &str) -> Self {
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if media_type.ends_with("/json") || media_type.ends_with("+json") { Self::Json } else { Self::Text }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Address => "address",
        }
    }
}

/// Renders templates for one event.
pub(crate) struct Templates {
    env: Environment<'static>,
    scope: Value,
}

fn environment() -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    env.add_filter("default", |value: Value, other: Value| if value.is_undefined() || value.is_none() { other } else { value });
    env.add_filter("length", minijinja::filters::length);
    env.add_filter("join", minijinja::filters::join);
    env.add_filter("upper", minijinja::filters::upper);
    env.add_filter("lower", minijinja::filters::lower);
    env.add_filter("trim", minijinja::filters::trim);
    env.add_filter("first", minijinja::filters::first);
    env.add_filter("last", minijinja::filters::last);
    env.add_test("defined", minijinja::tests::is_defined);
    env.add_test("none", minijinja::tests::is_none);
    env.set_auto_escape_callback(|name| match name {
        "json" => AutoEscape::Json,
        "address" => AutoEscape::Custom("address".into()),
        _ => AutoEscape::None,
    });
    env.set_formatter(|out, state, value| {
        // In JSON nothing is `null`; anywhere else it is as much a mistake as what is missing.
        if value.is_undefined() || (value.is_none() && *state.auto_escape() != AutoEscape::Json) {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        match state.auto_escape() {
            AutoEscape::Custom(_) => out.write_str(&encoded(&value.to_string())).map_err(Error::from),
            _ => minijinja::escape_formatter(out, state, value),
        }
    });
    env
}

impl Templates {
    /// # Errors
    /// Never for an event whose data is not JSON: then templates see it as a text, or as nothing when it is no text either.
    pub(crate) fn new(event: &Event<Bytes>) -> Result<Self, Failure> {
        let data = match serde_json::from_slice::<serde_json::Value>(&event.data) {
            Ok(data) => Value::from(Serde(data)),
            Err(_) => event.data.text().map_or(Value::UNDEFINED, Value::from),
        };
        let core = ["id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];
        let core = core.iter().filter_map(|name| Some(((*name).to_owned(), Value::from(event.attribute(name)?))));
        let further = event.extensions.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        let attributes: BTreeMap<String, Value> = further.chain(core).collect();
        Ok(Templates { env: environment(), scope: context! { data => data, event => attributes } })
    }

    /// Renders a template; `key` says which of the rule's it is.
    ///
    /// # Errors
    /// A reject that names the key, the line and the expression.
    pub(crate) fn render(&self, key: &str, form: Form, source: &str) -> Result<String, Failure> {
        let rendered = self.env.render_named_str(form.name(), source, &self.scope);
        rendered.map_err(|error| reject(explain(key, source, &error)))
    }

    /// An address. What is put in can't lead out of the folder in which it stands.
    ///
    /// # Errors
    /// As [`Templates::render`].
    pub(crate) fn address(&self, key: &str, source: &str) -> Result<String, Failure> {
        let source = source.trim();
        let url = self.render(key, Form::Address, source)?;
        let steps = |url: &str| -> Vec<String> {
            let path = url.split(['?', '#']).next().unwrap_or_default();
            path.split('/').skip(3).map(str::to_owned).collect()
        };
        // A step that is empty because the rule says so is no harm: then the template's own is empty too.
        let own = steps(source).iter().filter(|step| step.is_empty()).count();
        let steps = steps(&url);
        let empty = steps.iter().filter(|step| step.is_empty()).count() > own;
        if empty || steps.iter().any(|step| matches!(step.as_str(), "." | "..")) {
            return Err(reject(format!("`{key}`: a value of the event is empty or a way out of the path")));
        }
        Ok(url)
    }
}

fn explain(key: &str, source: &str, error: &Error) -> String {
    let line = error.line().unwrap_or(1);
    let what = error.range().and_then(|range| source.get(range)).unwrap_or_default().trim();
    match error.kind() {
        ErrorKind::UndefinedError => format!("`{key}` line {line}: `{what}` is missing"),
        kind => match error.detail() {
            Some(detail) => format!("`{key}` line {line}: {kind}: {detail}"),
            None => format!("`{key}` line {line}: {kind}"),
        },
    }
}

/// What can be known of a rule's templates without an event: their syntax, the names and filters that they use, and the address's host.
pub(crate) fn check(rule: &Rule) -> Result<(), String> {
    let env = environment();
    let one = |key: &str, form: Form, source: &str| {
        let template = env.template_from_named_str(form.name(), source).map_err(|error| explain(key, source, &error))?;
        let unknown = template.undeclared_variables(false).into_iter().find(|name| !matches!(name.as_str(), "data" | "event"));
        if let Some(name) = unknown {
            return Err(format!("`{key}`: `{name}` is not known (known: `data`, `event`)"));
        }
        match template.render(context! { data => context! {}, event => context! {} }) {
            Err(error)
                if matches!(error.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction) =>
            {
                Err(explain(key, source, &error))
            }
            _ => Ok(()),
        }
    };
    one("url", Form::Address, &rule.url)?;
    let url = rule.url.trim();
    let host = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let host = host.map(|rest| rest.split('/').next().unwrap_or_default()).unwrap_or_default();
    if host.is_empty() || host.contains(['{', '}', '@', '?', '#']) {
        return Err(
            "`url` begins with no scheme and host (expected such as `https://host/path`; values stand in path and query)"
                .to_owned(),
        );
    }
    for (name, source) in &rule.headers {
        one(&format!("headers.{name}"), Form::Text, source)?;
    }
    match rule.body() {
        Body::Template { text, content_type } => one("body", Form::of_body(content_type), text),
        Body::Event | Body::Data => Ok(()),
    }
}

/// A text as one line of a head: control characters and line breaks become spaces, and what is too long is cut.
pub(crate) fn line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_CHARS_MAX).collect()
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The event in the structured mode of CloudEvents: JSON data byte for byte as it is, text as a text, anything else in base64.
pub(crate) fn structured(event: &Event<Bytes>) -> Vec<u8> {
    let core = ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];
    let core = core.iter().filter_map(|name| Some((*name, event.attribute(name)?)));
    let further = event.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut members: Vec<String> = core.chain(further).map(|(name, value)| format!("{}:{}", json!(name), json!(value))).collect();
    if !event.data.is_empty() {
        members.push(data(event));
    }
    format!("{{{}}}", members.join(",")).into_bytes()
}

fn data(event: &Event<Bytes>) -> String {
    let content_type = event.datacontenttype.as_deref().unwrap_or("application/json");
    match event.data.text() {
        Ok(text) if Form::of_body(content_type) == Form::Json && is_json(text) => format!("\"data\":{text}"),
        Ok(text) if content_type.starts_with("text/") => format!("\"data\":{}", json!(text)),
        _ => format!("\"data_base64\":\"{}\"", STANDARD.encode(&event.data.0)),
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

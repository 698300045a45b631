//! Templates: minijinja with few filters, nothing that turns escaping off, and no way to print what is not there.
//!
//! Only the templates that an event needs are compiled, since every event runs in a fresh instance.

mod filters;
mod format;
mod html;

use std::collections::BTreeMap;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde::{Serialize, Serializer};
use weir_sdk::{Event, Failure, reject};

use crate::path::ATTRIBUTES;

/// Names that templates can use.
const NAMES: [&str; 7] = ["data", "event", "locale", "to", "sender", "subject", "content"];
/// Names that those of a digest can use beside them.
const DIGEST_NAMES: [&str; 2] = ["events", "count"];

/// What a template becomes; decides how it is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Plain text, also for subjects and headers.
    Text,
    /// HTML.
    Html,
    /// One address of a link.
    Address,
}

/// What templates of one mail see.
#[derive(Debug, Clone)]
pub(crate) struct Scope(Value);

/// Renders templates.
pub(crate) struct Templates {
    engine: Environment<'static>,
    digest: bool,
}

impl Scope {
    /// The event, and in which locale it is written about, by whom.
    pub(crate) fn new(event: &Event, locale: &str, sender: &str) -> Self {
        Scope(context! {
            data => Value::from(Serde(Present(&event.data))),
            event => attributes(event),
            locale => locale,
            sender => sender,
        })
    }

    /// The same for a digest: the events that it shows, and how many there are.
    pub(crate) fn events(&self, events: &[Event], count: usize) -> Self {
        let one = |event: &Event| context! { data => Value::from(Serde(Present(&event.data))), event => attributes(event) };
        let events: Vec<Value> = events.iter().map(one).collect();
        Scope(context! { events => events, count => count, ..self.0.clone() })
    }

    /// The same with the recipient.
    pub(crate) fn to(&self, email: &str, name: &str) -> Self {
        Scope(context! { to => context! { email => email, name => name }, ..self.0.clone() })
    }

    /// The same for a layout; `content` is what the mail's own template became.
    pub(crate) fn content(&self, form: Form, subject: &str, content: String) -> Self {
        let content = if form == Form::Html { Value::from_safe_string(content) } else { Value::from(content) };
        Scope(context! { subject => subject, content => content, ..self.0.clone() })
    }
}

fn attributes(event: &Event) -> BTreeMap<String, Value> {
    let known = ATTRIBUTES.iter().filter_map(|name| event.attribute(name).map(|value| ((*name).to_owned(), Value::from(value))));
    let further = event.extensions.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    further.chain(known).collect()
}

/// The event's data without the members of objects that are null: to a template those are missing, as to a path.
struct Present<'a>(&'a serde_json::Value);

impl Serialize for Present<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            serde_json::Value::Object(map) => {
                serializer.collect_map(map.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, Present(value))))
            }
            serde_json::Value::Array(list) => serializer.collect_seq(list.iter().map(Present)),
            other => other.serialize(serializer),
        }
    }
}

impl Templates {
    /// For a rule, which gathers a digest or does not.
    pub(crate) fn new(digest: bool) -> Self {
        let mut env = Environment::empty();
        filters::add(&mut env);
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        env.set_auto_escape_callback(|name| if name == "html" { AutoEscape::Html } else { AutoEscape::None });
        // `null` printed is as much a mistake as nothing at all.
        env.set_formatter(|out, state, value| {
            if value.is_none() || value.is_undefined() {
                return Err(Error::from(ErrorKind::UndefinedError));
            }
            if !value.is_safe() && *state.auto_escape() == AutoEscape::Html {
                return out.write_str(&filters::escape(&value.to_string())).map_err(Error::from);
            }
            minijinja::escape_formatter(out, state, value)
        });
        Templates { engine: env, digest }
    }

    /// Renders a template; `key` says which of the rule's it is.
    ///
    /// # Errors
    /// A reject that names the key, the line, and what of the event is missing or wrong.
    pub(crate) fn render(&self, key: &str, form: Form, source: &str, scope: &Scope) -> Result<String, Failure> {
        let prepared = prepare(form, source).map_err(|(line, what)| reject(format!("`{key}` line {line}: {what}")))?;
        let name = if form == Form::Html { "html" } else { "text" };
        let explain = |error: Error| reject(self.explain(key, &prepared, &error, scope));
        self.engine.render_named_str(name, &prepared, scope.0.clone()).map_err(explain)
    }

    /// What can be known of a template without an event: its syntax, its places in HTML, the names and filters that it uses.
    pub(crate) fn check(&self, key: &str, form: Form, source: &str) -> Result<(), String> {
        let prepared = prepare(form, source).map_err(|(line, what)| format!("`{key}` line {line}: {what}"))?;
        let template = self
            .engine
            .template_from_named_str(if form == Form::Html { "html" } else { "text" }, &prepared)
            .map_err(|error| syntax(key, &error))?;
        let known: Vec<&str> = if self.digest { [&NAMES[..], &DIGEST_NAMES].concat() } else { NAMES.to_vec() };
        let mut names: Vec<_> =
            template.undeclared_variables(false).into_iter().filter(|name| !known.contains(&name.as_str())).collect();
        names.sort();
        match names.first() {
            Some(name) if DIGEST_NAMES.contains(&name.as_str()) => {
                return Err(format!(
                    "`{key}`: `{name}` is for rules that gather (expected `when = \"digest …\"`, see README.md)"
                ));
            }
            Some(name) => return Err(format!("`{key}`: `{name}` is not known (known: `{}`)", known.join("`, `"))),
            None => {}
        }
        // Rendering with nothing shows filters that do not exist, as far as it gets.
        match template.render(context! { data => context! {}, event => context! {} }) {
            Err(error)
                if matches!(error.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction) =>
            {
                Err(syntax(key, &error))
            }
            _ => Ok(()),
        }
    }

    fn explain(&self, key: &str, source: &str, error: &Error, scope: &Scope) -> String {
        let line = error.line().unwrap_or(1);
        let expression = error.range().and_then(|range| enclosing(source, range.start)).map(cleaned).unwrap_or_default();
        match error.kind() {
            ErrorKind::UndefinedError => match self.missing(&expression, scope).as_slice() {
                [] => format!("`{key}` line {line}: `{expression}` is missing"),
                paths => format!("`{key}` line {line}: `{}` is missing", paths.join("`, `")),
            },
            ErrorKind::InvalidOperation => {
                let detail = error.detail().unwrap_or("can't be computed");
                format!("`{key}` line {line}: `{expression}`: {detail}")
            }
            _ => syntax(key, error),
        }
    }

    /// Which of the paths that an expression names lead nowhere.
    fn missing(&self, expression: &str, scope: &Scope) -> Vec<String> {
        let Ok(compiled) = self.engine.compile_expression_owned(expression.to_owned()) else { return Vec::new() };
        let nowhere = |path: &String| {
            let mut value = scope.0.clone();
            path.split('.').any(|step| {
                value = value.get_attr(step).unwrap_or_default();
                value.is_undefined() || value.is_none()
            })
        };
        let in_event = |path: &String| path.starts_with("data") || path.starts_with("event") || path.starts_with("to.");
        let mut paths: Vec<_> = compiled.undeclared_variables(true).into_iter().filter(in_event).filter(nowhere).collect();
        paths.sort();
        paths
    }
}

fn prepare(form: Form, source: &str) -> Result<String, (usize, String)> {
    match form {
        Form::Text => Ok(source.to_owned()),
        Form::Html => html::escaping(source),
        Form::Address => html::escaping_address(source),
    }
}

fn syntax(key: &str, error: &Error) -> String {
    let line = error.line().unwrap_or(1);
    match error.detail() {
        Some(detail) => format!("`{key}` line {line}: {}: {detail}", error.kind()),
        None => format!("`{key}` line {line}: {}", error.kind()),
    }
}

/// The whole `{{ … }}` or `{% … %}` around a position, without its ends: the engine names only the part that failed.
fn enclosing(source: &str, at: usize) -> Option<&str> {
    let before = source.get(..at)?;
    let start = before.rfind("{{").max(before.rfind("{%"))?;
    let tag = source.get(start..)?;
    tag.get(2..html::closing(tag)? - 2)
}

/// An expression as its author wrote it, without `for … in` and the filter that `html.rs` put behind it.
fn cleaned(tag: &str) -> String {
    let tag = tag.trim_matches(['-', '+']).trim();
    let expression = match tag.split_once(char::is_whitespace) {
        Some(("for", rest)) => rest.split_once(" in ").map_or(rest, |(_, list)| list).trim(),
        Some(("if" | "elif", condition)) => condition.trim(),
        _ => tag,
    };
    for filter in [html::ATTRIBUTE, html::LINK, html::LINK_PART] {
        let inner =
            expression.strip_suffix(filter).and_then(|rest| rest.strip_suffix(")|")).and_then(|rest| rest.strip_prefix('('));
        if let Some(inner) = inner {
            return inner.to_owned();
        }
    }
    expression.to_owned()
}

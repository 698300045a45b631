//! The filters of templates. Those whose name begins with `_` are put in by `html.rs`.

use minijinja::value::{Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value, filters, tests};

use super::format::{self, When};
use super::html;

/// Schemes that a link from an event may have; one without a scheme is relative and harmless.
const SCHEMES: [&str; 4] = ["http", "https", "mailto", "tel"];

/// Gives an environment the filters and tests that templates have; nothing else is there.
pub(crate) fn add(env: &mut Environment<'_>) {
    env.add_filter("default", default);
    env.add_filter("length", filters::length);
    env.add_filter("join", join);
    env.add_filter("upper", filters::upper);
    env.add_filter("lower", filters::lower);
    env.add_filter("trim", filters::trim);
    env.add_filter("first", filters::first);
    env.add_filter("last", filters::last);
    env.add_filter("sort", filters::sort);
    env.add_filter("urlencode", urlencode);
    env.add_filter("money", money);
    env.add_filter("number", number);
    env.add_filter("date", date);
    env.add_filter("datetime", datetime);
    env.add_filter("pairs", pairs);
    env.add_filter(html::ATTRIBUTE, attribute);
    env.add_filter(html::LINK, link);
    env.add_filter(html::LINK_PART, link_part);
    env.add_test("defined", tests::is_defined);
    env.add_test("undefined", tests::is_undefined);
    env.add_test("none", tests::is_none);
    env.add_test("string", tests::is_string);
    env.add_test("mapping", tests::is_mapping);
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

fn missing() -> Error {
    Error::from(ErrorKind::UndefinedError)
}

/// A value as it is printed; nothing is not printed, it is a mistake.
fn printed(value: &Value) -> Result<String, Error> {
    if value.is_undefined() || value.is_none() { Err(missing()) } else { Ok(value.to_string()) }
}

fn locale(state: &State) -> String {
    state.lookup("locale").map(|value| value.to_string()).unwrap_or_default()
}

/// The other value where this one is missing or null.
fn default(value: &Value, other: &Value) -> Value {
    if value.is_undefined() || value.is_none() { other.clone() } else { value.clone() }
}

/// The texts with something between them. The engine's own keeps text unescaped next to text that is already HTML.
fn join(value: &Value, between: Option<&str>) -> Result<String, Error> {
    let texts: Result<Vec<_>, _> = value.try_iter()?.map(|item| printed(&item)).collect();
    Ok(texts?.join(between.unwrap_or_default()))
}

fn amount(value: &Value) -> Result<f64, Error> {
    if value.is_undefined() || value.is_none() {
        return Err(missing());
    }
    let number = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None if value.kind() == ValueKind::Number => f64::try_from(value.clone()).ok(),
        None => None,
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| wrong(format!("`{}` is not a number", shown(value))))
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect::<String>().escape_debug().to_string()
}

fn money(state: &State, value: &Value, currency: &Value) -> Result<String, Error> {
    Ok(format::money(&locale(state), amount(value)?, &printed(currency)?))
}

fn number(state: &State, value: &Value, decimals: Option<usize>) -> Result<String, Error> {
    let value = amount(value)?;
    // As many as it has, within reason.
    let own = || format!("{value}").split_once('.').map_or(0, |(_, fraction)| fraction.len().min(6));
    Ok(format::number(&locale(state), value, decimals.map_or_else(own, |decimals| decimals.min(12))))
}

fn when<T>(value: &Value, write: impl Fn(When<'_>) -> T) -> Result<T, Error> {
    let text = printed(value)?;
    When::parse(&text)
        .map(write)
        .ok_or_else(|| wrong(format!("`{}` is not a time (expected such as `2026-11-21T09:12:00Z`)", shown(value))))
}

fn date(state: &State, value: &Value) -> Result<String, Error> {
    when(value, |when| when.date(&locale(state)))
}

fn datetime(state: &State, value: &Value) -> Result<String, Error> {
    when(value, |when| when.datetime(&locale(state)))
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

/// Encoded text is marked, so that the automatic encoding in links does not do it twice.
fn urlencode(value: &Value) -> Result<Value, Error> {
    Ok(Value::from_safe_string(encoded(&printed(value)?)))
}

/// A text as HTML, in text and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// Escapes also what is HTML already: an attribute holds text.
fn attribute(value: &Value) -> Result<Value, Error> {
    Ok(Value::from_safe_string(escape(&printed(value)?)))
}

/// The beginning of an address, perhaps all of it.
fn link(state: &State, value: &Value) -> Result<Value, Error> {
    let text = printed(value)?;
    let scheme = text.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| !scheme.contains(['/', '?', '#']));
    let hidden = text.chars().any(|c| c.is_control() || c.is_whitespace());
    if hidden || scheme.is_some_and(|scheme| !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))) {
        return Err(wrong(format!("`{}` is not a link (expected one with {})", shown(value), SCHEMES.join(", "))));
    }
    let html = *state.auto_escape() == AutoEscape::Html;
    Ok(Value::from_safe_string(if html { escape(&text) } else { text }))
}

fn link_part(value: &Value) -> Result<Value, Error> {
    let text = printed(value)?;
    let already = value.is_safe() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b));
    Ok(Value::from_safe_string(if already { text } else { encoded(&text) }))
}

/// Answers as a list of `label` and `value`: of an object, of a list of objects (`question` and `answer`, or such), of a list of texts.
fn pairs(state: &State, value: &Value, rest: Rest<Value>) -> Result<Value, Error> {
    if !rest.is_empty() {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let locale = locale(state);
    let pair = |label: &Value, value: &Value| {
        let label = if label.is_undefined() || label.is_none() { String::new() } else { label.to_string() };
        minijinja::context! { label => label, value => plain(&locale, value) }
    };
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Err(missing()),
        ValueKind::Map => Ok(value.try_iter()?.map(|key| pair(&key, &value.get_item(&key).unwrap_or_default())).collect()),
        ValueKind::Seq => Ok(value
            .try_iter()?
            .map(|item| match item.kind() {
                ValueKind::Map => pair(
                    &member(&item, &["question", "label", "title", "name", "id"]),
                    &member(&item, &["answer", "value", "text"]),
                ),
                _ => pair(&Value::UNDEFINED, &item),
            })
            .collect()),
        _ => Err(wrong(format!("`{}` holds no answers (expected a list or an object)", shown(value)))),
    }
}

fn member(item: &Value, names: &[&str]) -> Value {
    names.iter().filter_map(|name| item.get_attr(name).ok()).find(|value| !value.is_undefined()).unwrap_or_default()
}

/// A value as a person would write it.
fn plain(locale: &str, value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => "–".to_owned(),
        ValueKind::Bool => {
            let (yes, no) = match locale.split('-').next() {
                Some("de") => ("ja", "nein"),
                Some("zh") => ("是", "否"),
                _ => ("yes", "no"),
            };
            (if value.is_true() { yes } else { no }).to_owned()
        }
        ValueKind::Seq => match value.try_iter() {
            Ok(items) => items.map(|item| plain(locale, &item)).collect::<Vec<_>>().join(", "),
            Err(_) => value.to_string(),
        },
        _ => value.to_string(),
    }
}

//! Who a mail goes to: fixed addresses, or what stands at a path in the event. An address that comes from an event is one address and
//! nothing else: no list, no name, no quoting, no line break.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_sdk::prelude::*;

use crate::headers;
use crate::path::{self, Found, Path};
use crate::rules::Rule;

/// Most recipients that one key of a rule may come to. More in one mail is a mailing list, which relays refuse.
const RECIPIENTS_MAX: usize = 100;
/// Longest address: RFC 5321 §4.5.3.1.3.
const ADDRESS_BYTES_MAX: usize = 254;

/// One entry of `to`, `cc`, `bcc` or `reply-to`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who<'a> {
    /// `ann@example.com` or `Ann <ann@example.com>`.
    Fixed {
        /// The bare address.
        email: &'a str,
        /// The name before it.
        name: Option<&'a str>,
    },
    /// What stands at a path: an address, an object with `email` and perhaps `name`, or a list of these.
    At(Path<'a>),
    /// Address and name at paths of their own; the name may also be a fixed text.
    Parts {
        /// The address.
        email: Path<'a>,
        /// The name.
        name: Option<&'a str>,
    },
}

/// A recipient found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipient {
    /// The bare address.
    pub(crate) email: String,
    /// The name before it, perhaps empty.
    pub(crate) name: String,
}

/// Everybody that a mail of a rule concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipients {
    /// Recipients.
    pub(crate) to: Vec<Recipient>,
    /// Copies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) cc: Vec<Recipient>,
    /// Copies that nobody sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) bcc: Vec<Recipient>,
    /// Where answers go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reply_to: Vec<Recipient>,
}

impl Recipients {
    /// Of a rule for an event, each of whom gets a mail of its own where the rule says so; none when nobody is written to.
    ///
    /// # Errors
    /// A reject that names the key of the rule and the path in the event.
    pub(crate) fn find(rule: &Rule<'_>, event: &Event) -> Result<Vec<Recipients>> {
        let [to, cc, bcc, reply_to] = [("to", &rule.to), ("cc", &rule.cc), ("bcc", &rule.bcc), ("reply-to", &rule.reply_to)]
            .map(|(key, entries)| find(key, entries, event));
        let all = Recipients { to: to?, cc: cc?, bcc: bcc?, reply_to: reply_to? };
        if all.to.is_empty() && all.cc.is_empty() && all.bcc.is_empty() {
            return Ok(Vec::new());
        }
        if !rule.separate {
            return Ok(vec![all]);
        }
        Ok(all.to.chunks(1).map(|one| Recipients { to: one.to_vec(), ..all.clone() }).collect())
    }

    /// Their addresses, for telling them from others.
    pub(crate) fn addresses(&self) -> String {
        let addresses = [&self.to, &self.cc, &self.bcc].map(|list| {
            let list: Vec<String> = list.iter().map(|recipient| recipient.email.to_ascii_lowercase()).collect();
            list.join(" ")
        });
        addresses.join(",")
    }
}

impl Recipient {
    /// As it stands in a header.
    pub(crate) fn address(&self) -> String {
        email::address(&headers::line(&self.name), &self.email)
    }
}

impl<'a> Who<'a> {
    /// Reads an entry that is a text.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        if Path::is_one(text) {
            return Path::parse(text).map(Who::At);
        }
        let (name, email) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
            Some((name, email)) => (Some(name.trim().trim_matches('"')).filter(|name| !name.is_empty()), email),
            None => (None, text),
        };
        check(email)?;
        Ok(Who::Fixed { email, name })
    }

    /// Reads an entry that is a table.
    pub(crate) fn from_parts(email: &'a str, name: Option<&'a str>) -> Result<Self, String> {
        if Path::is_one(email) {
            return Ok(Who::Parts { email: Path::parse(email)?, name });
        }
        check(email)?;
        Ok(Who::Fixed { email, name })
    }
}

/// The recipients of one key of a rule, without doubles.
///
/// # Errors
/// A reject that names the path, when what stands there is no recipient.
fn find(key: &str, entries: &[Who<'_>], event: &Event) -> Result<Vec<Recipient>> {
    let mut all: Vec<Recipient> = Vec::new();
    for entry in entries {
        for recipient in one(entry, event).map_err(|what| reject(format!("`{key}`: {what}")))? {
            if !all.iter().any(|before| before.email.eq_ignore_ascii_case(&recipient.email)) {
                all.push(recipient);
            }
        }
    }
    if all.len() > RECIPIENTS_MAX {
        return Err(reject(format!("`{key}`: {} recipients (expected at most {RECIPIENTS_MAX})", all.len())));
    }
    Ok(all)
}

fn one(entry: &Who<'_>, event: &Event) -> Result<Vec<Recipient>, String> {
    match *entry {
        Who::Fixed { email, name } => Ok(vec![Recipient { email: email.to_owned(), name: name.unwrap_or_default().to_owned() }]),
        Who::At(path) => match path.find(event) {
            None => missing(path),
            Some(Found::Text(text)) => Ok(vec![address(path.text, text, String::new())?]),
            Some(Found::Value(Value::Array(list))) => {
                list.iter().enumerate().map(|(at, value)| object(&format!("{}.{at}", path.text), value)).collect()
            }
            Some(Found::Value(value)) => Ok(vec![object(path.text, value)?]),
        },
        Who::Parts { email, name } => match email.find(event) {
            None => missing(email),
            Some(Found::Text(text)) => Ok(vec![address(email.text, text, named(name, event))?]),
            Some(Found::Value(value)) => Err(format!("`{}` is {}, expected an address", email.text, path::kind(value))),
        },
    }
}

fn missing(path: Path<'_>) -> Result<Vec<Recipient>, String> {
    if path.optional { Ok(Vec::new()) } else { Err(format!("`{}` is missing (expected an address)", path.text)) }
}

/// A name is a courtesy: one that is missing, or no text, does not stop a mail.
fn named(name: Option<&str>, event: &Event) -> String {
    let Some(name) = name else { return String::new() };
    match Path::parse(name) {
        Err(_) => name.to_owned(),
        Ok(path) => match path.find(event) {
            Some(Found::Text(text)) => text.to_owned(),
            _ => String::new(),
        },
    }
}

fn object(path: &str, value: &Value) -> Result<Recipient, String> {
    match value {
        Value::String(text) => address(path, text, String::new()),
        Value::Object(map) => match map.get("email") {
            Some(Value::String(email)) => {
                let name = map.get("name").and_then(Value::as_str).unwrap_or_default();
                address(&format!("{path}.email"), email, name.to_owned())
            }
            Some(other) => Err(format!("`{path}.email` is {}, expected an address", path::kind(other))),
            None => Err(format!("`{path}.email` is missing (expected an address)")),
        },
        other => Err(format!("`{path}` is {}, expected an address or an object with `email`", path::kind(other))),
    }
}

fn address(path: &str, text: &str, name: String) -> Result<Recipient, String> {
    check(text).map_err(|e| format!("`{path}`: {e}"))?;
    Ok(Recipient { email: text.to_owned(), name })
}

/// Whether a text is one bare address. Stricter than RFC 5322: no quoted local part, no comment, no literal IP address.
fn check(text: &str) -> Result<(), String> {
    let shown = || text.chars().take(80).collect::<String>().escape_debug().to_string();
    let allowed = |c: char| !c.is_control() && !c.is_whitespace() && !"()<>[]:;,\\\"".contains(c);
    let dots = |part: &str| !part.starts_with('.') && !part.ends_with('.') && !part.contains("..");
    let good = text.len() <= ADDRESS_BYTES_MAX
        && text.chars().all(allowed)
        && text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@') && dots(local) && dots(domain)
        });
    if good { Ok(()) } else { Err(format!("`{}` is not one address (expected such as `ann@example.com`)", shown())) }
}

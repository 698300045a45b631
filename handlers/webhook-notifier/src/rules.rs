//! The rules' file: TOML into [`Rule`]s. What is wrong is said with its line; nothing unknown is ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use weir_sdk::{Bytes, Event};

/// Longest wait that a rule may ask for: longer than any deadline.
const TIMEOUT_MAX: u64 = 300;

/// Headers that the handler or the server writes itself.
const OWN_HEADERS: [&str; 17] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Methods that carry a body.
const METHODS: [&str; 3] = ["POST", "PUT", "PATCH"];

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    #[serde(default, rename = "webhook")]
    webhooks: Vec<Rule>,
}

/// Where events of a kind are sent, and how.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Rule {
    /// Unique in the file.
    pub(crate) name: String,
    /// The event's type, or several; with `*` at the end all that begin so.
    #[serde(rename = "type")]
    kinds: OneOrMore,
    /// The same for its subject; none: whatever it is.
    subject: Option<OneOrMore>,
    /// Template of the address.
    pub(crate) url: String,
    /// `POST`, `PUT` or `PATCH`.
    #[serde(default = "post")]
    pub(crate) method: String,
    /// Further headers and their templates.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// `event`, `data`, or a template.
    body: Option<String>,
    /// Of a body that is a template.
    content_type: Option<String>,
    /// Whether it is signed.
    #[serde(default = "yes")]
    pub(crate) sign: bool,
    /// The key of the handler's configuration that holds the signing keys.
    #[serde(default = "key")]
    pub(crate) key: String,
    /// Seconds until the receiver has to answer.
    timeout: Option<u64>,
}

/// What is sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    /// The event, as structured JSON.
    Event,
    /// The event's data alone, as it came.
    Data,
    /// What a template makes of it.
    Template { text: &'a str, content_type: &'a str },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

fn post() -> String {
    "POST".to_owned()
}

fn key() -> String {
    "key".to_owned()
}

fn yes() -> bool {
    true
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more,
        }
    }

    fn fits(&self, text: &str) -> bool {
        self.all().iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => text.starts_with(prefix),
            None => pattern == text,
        })
    }

    fn is_empty(&self) -> bool {
        self.all().is_empty() || self.all().iter().any(String::is_empty)
    }
}

impl Rules {
    /// Parses the file and looks through it.
    ///
    /// # Errors
    /// The first mistake, with its line or its rule.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rules: Rules = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
            format!("line {line}: {}", error.message())
        })?;
        for (at, rule) in rules.webhooks.iter().enumerate() {
            rule.check().map_err(|what| format!("rule `{}`: {what}", rule.name))?;
            if rules.webhooks.iter().take(at).any(|before| before.name == rule.name) {
                return Err(format!("rule `{}`: two rules have this name (it tells their messages apart)", rule.name));
            }
        }
        Ok(rules)
    }

    /// The rules for this event, in the order of the file.
    pub(crate) fn matching(&self, event: &Event<Bytes>) -> Vec<&Rule> {
        self.webhooks.iter().filter(|rule| rule.fits(event)).collect()
    }

    pub(crate) fn all(&self) -> &[Rule] {
        &self.webhooks
    }
}

impl Rule {
    fn fits(&self, event: &Event<Bytes>) -> bool {
        let subject =
            self.subject.as_ref().is_none_or(|subject| event.subject.as_deref().is_some_and(|found| subject.fits(found)));
        self.kinds.fits(&event.kind) && subject
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("`name` is empty".to_owned());
        }
        if self.kinds.is_empty() || self.subject.as_ref().is_some_and(OneOrMore::is_empty) {
            return Err("`type` or `subject` is empty (expected texts, perhaps with `*` at the end)".to_owned());
        }
        if !METHODS.contains(&self.method.as_str()) {
            return Err(format!("`method` is `{}` (expected `{}`)", self.method, METHODS.join("`, `")));
        }
        if self.key.is_empty() {
            return Err("`key` is empty (expected the name of a key in the handler's `config`)".to_owned());
        }
        if self.timeout.is_some_and(|seconds| !(1..=TIMEOUT_MAX).contains(&seconds)) {
            return Err(format!("`timeout` is out of range (expected seconds from 1 to {TIMEOUT_MAX})"));
        }
        if self.content_type.is_some() && !matches!(self.body(), Body::Template { .. }) {
            return Err("`content-type` is for a `body` that is a template".to_owned());
        }
        for name in self.headers.keys() {
            let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            if !valid {
                return Err(format!("`headers.{name}`: not the name of a header (expected letters, digits, `-` and `_`)"));
            }
            if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(format!("`headers.{name}`: this header is not the rule's to write"));
            }
        }
        Ok(())
    }

    /// What is sent.
    pub(crate) fn body(&self) -> Body<'_> {
        match self.body.as_deref() {
            None | Some("event") => Body::Event,
            Some("data") => Body::Data,
            Some(text) => Body::Template { text, content_type: self.content_type.as_deref().unwrap_or("application/json") },
        }
    }

    /// How long the receiver has.
    pub(crate) fn timeout(&self) -> Duration {
        const DEFAULT: u64 = 10;
        Duration::from_secs(self.timeout.unwrap_or(DEFAULT))
    }
}

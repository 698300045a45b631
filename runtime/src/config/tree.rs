//! TOML text as a tree in which every key and value knows where it stands. It says nothing about which keys there are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::redact::redact;

/// A text that configuration was read from: the file, or one `--set`.
#[derive(Debug)]
pub(super) struct Source {
    /// As people know it.
    pub(super) name: String,
    /// Its text with secrets masked, byte for byte as long as the original: the only form that is kept, so that nothing else can be shown.
    pub(super) shown: String,
    /// Where relative paths begin; absolute.
    pub(super) base: PathBuf,
}

impl Source {
    pub(super) fn new(name: String, text: &str, base: PathBuf) -> Self {
        Self { name, shown: redact(text), base }
    }
}

/// A stretch of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Which source, by its index.
    pub(super) source: usize,
    /// In bytes.
    pub(super) span: Range<usize>,
}

/// The keys of a table.
pub(super) type Table = BTreeMap<String, Entry>;

/// A key and what it holds.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key itself, without its value.
    pub(super) key: Place,
    /// The value.
    pub(super) node: Node,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    /// The text of a `--set` value as it was typed: there a text needs no quotes, so `--set server.name=7` is a text too.
    pub(super) typed: Option<String>,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    /// A whole number; none: it does not fit 64 bits.
    Number(Option<i64>),
    Flag(bool),
    List(Vec<Node>),
    Table(Table),
    /// Only data of events holds one.
    Float(f64),
    /// A date or a time, as TOML writes it.
    Time(String),
    /// What was taken out of the tree.
    Taken,
}

impl Node {
    /// Moves the parser's value into the tree.
    pub(super) fn new(value: Spanned<DeValue<'_>>, source: usize) -> Self {
        let place = Place { source, span: value.span() };
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => Value::Number(i64::from_str_radix(number.as_str(), number.radix()).ok()),
            DeValue::Boolean(flag) => Value::Flag(flag),
            DeValue::Array(items) => Value::List(items.into_iter().map(|item| Self::new(item, source)).collect()),
            DeValue::Table(table) => Value::Table(tree(table, source)),
            DeValue::Float(number) => match number.as_str().replace('_', "").parse() {
                Ok(number) => Value::Float(number),
                // Never: the parser has read it.
                Err(_) => Value::Taken,
            },
            DeValue::Datetime(time) => Value::Time(time.to_string()),
        };
        Self { value, place, typed: None }
    }
}

/// Moves the parser's table into the tree. How deep it can be is bounded by the parser.
pub(super) fn tree(table: DeTable<'_>, source: usize) -> Table {
    let entry = |(key, value): (Spanned<std::borrow::Cow<'_, str>>, Spanned<DeValue<'_>>)| {
        let place = Place { source, span: key.span() };
        (key.into_inner().into_owned(), Entry { key: place, node: Node::new(value, source) })
    };
    table.into_iter().map(entry).collect()
}

/// A key path as TOML would write it.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

//! A TOML table with its place in the file: reads keys of one type, and says what is wrong with the others.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Mistake;

/// A table, and how to call it.
pub(crate) struct Table<'a> {
    source: &'a str,
    place: String,
    /// Keys that lead from the place to this table, with a dot after each.
    prefix: String,
    table: &'a DeTable<'a>,
    start: usize,
}

/// The line of a position, from 1.
pub(crate) fn line(source: &str, at: usize) -> usize {
    1 + source.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// What a value is, for people.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl<'a> Table<'a> {
    pub(crate) fn new(source: &'a str, place: String, table: &'a DeTable<'a>, start: usize) -> Self {
        Table { source, place, prefix: String::new(), table, start }
    }

    /// The same table with another name for its place.
    pub(crate) fn named(self, place: String) -> Self {
        Table { place, prefix: String::new(), ..self }
    }

    /// A table below `key`.
    pub(crate) fn inner(&self, key: &str, table: &'a DeTable<'a>) -> Table<'a> {
        let prefix = format!("{}{key}.", self.prefix);
        Table { source: self.source, place: self.place.clone(), prefix, table, start: self.at(key) }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a DeValue<'a>> {
        self.table.get(key).map(Spanned::get_ref)
    }

    pub(crate) fn keys(&self) -> Vec<&'a str> {
        self.table.keys().map(|key| key.get_ref().as_ref()).collect()
    }

    fn at(&self, key: &str) -> usize {
        self.table.get_key_value(key).map_or(self.start, |(name, _)| name.span().start)
    }

    /// Where it begins in the file.
    pub(crate) fn line(&self) -> usize {
        line(self.source, self.start)
    }

    /// A mistake in the value of `key`.
    pub(crate) fn wrong(&self, key: &str, what: String) -> Mistake {
        let line = line(self.source, self.at(key));
        Mistake { place: self.place.clone(), line, what: format!("`{}{key}`: {what}", self.prefix) }
    }

    /// A mistake unless all keys are among these.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Mistake> {
        match self.keys().into_iter().find(|key| !known.contains(key)) {
            Some(key) => Err(self.wrong(key, format!("unknown key (known: `{}`)", known.join("`, `")))),
            None => Ok(()),
        }
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&'a str>, Mistake> {
        match self.get(key) {
            None => Ok(None),
            Some(DeValue::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, format!("is {}, expected a text", kind(other)))),
        }
    }

    pub(crate) fn required(&self, key: &str) -> Result<&'a str, Mistake> {
        match self.string(key)? {
            None => Err(self.wrong(key, "is missing (expected a text)".to_owned())),
            Some("") => Err(self.wrong(key, "is empty".to_owned())),
            Some(text) => Ok(text),
        }
    }

    /// A text, or a list of texts.
    pub(crate) fn required_strings(&self, key: &str) -> Result<Vec<&'a str>, Mistake> {
        let Some(DeValue::Array(list)) = self.get(key) else { return Ok(vec![self.required(key)?]) };
        let text = |value: &'a Spanned<DeValue<'a>>| match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => Ok(text.as_ref()),
            other => Err(self.wrong(key, format!("holds {}, expected texts that are not empty", kind(other)))),
        };
        list.iter().map(text).collect()
    }

    pub(crate) fn bool(&self, key: &str) -> Result<bool, Mistake> {
        match self.get(key) {
            None => Ok(false),
            Some(DeValue::Boolean(value)) => Ok(*value),
            Some(other) => Err(self.wrong(key, format!("is {}, expected true or false", kind(other)))),
        }
    }

    pub(crate) fn table(&self, key: &str) -> Result<Option<Table<'a>>, Mistake> {
        match self.get(key) {
            None => Ok(None),
            Some(DeValue::Table(table)) => Ok(Some(self.inner(key, table))),
            Some(other) => Err(self.wrong(key, format!("is {}, expected a table", kind(other)))),
        }
    }

    /// The tables of `[[key]]`.
    pub(crate) fn tables(&self, key: &str) -> Result<Vec<Table<'a>>, Mistake> {
        let list = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(DeValue::Array(list)) => list,
            Some(other) => return Err(self.wrong(key, format!("is {}, expected [[{key}]]", kind(other)))),
        };
        let table = |value: &'a Spanned<DeValue<'a>>| match value.get_ref() {
            DeValue::Table(table) => Ok(Table {
                source: self.source,
                place: self.place.clone(),
                prefix: String::new(),
                table,
                start: value.span().start,
            }),
            other => Err(self.wrong(key, format!("holds {}, expected [[{key}]]", kind(other)))),
        };
        list.iter().map(table).collect()
    }
}

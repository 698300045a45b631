//! Reading one table of the tree: what is asked for is known, what is left over is refused. No key is listed twice anywhere: the
//! readers (`server.rs`, `queues.rs`, `handlers.rs`, …) are the list.
//!
//! Whatever goes wrong is noted and answered with nothing, so that reading goes on and finds the next problem too.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostic::Finding;
use super::reader::{Field, Reader};
use super::tree::{Entry, Node, Place, Table, Value, join};
use super::values::{self, Form};

/// One table while it is read.
pub(super) struct Section<'r, 'e> {
    pub(super) reader: &'r mut Reader<'e>,
    /// Its path as written.
    pub(super) path: String,
    /// Its path with `*` for names.
    pattern: String,
    /// Where its own key stands: what is missing in it is missing there.
    at: Place,
    table: Table,
    /// It was no table, which is told: then nothing is missing in it.
    broken: bool,
    now: Vec<&'static str>,
    later: Vec<&'static str>,
}

impl<'e> Section<'_, 'e> {
    /// Reads the whole configuration.
    pub(super) fn root<T>(reader: &mut Reader<'e>, table: Table, read: impl FnOnce(&mut Section<'_, 'e>) -> T) -> T {
        let at = Place { source: 0, span: 0..0 };
        let (path, pattern) = (String::new(), String::new());
        let root = Section { reader, path, pattern, at, table, broken: false, now: Vec::new(), later: Vec::new() };
        root.read(read)
    }

    /// Nothing that was not asked for goes unnoticed, because no reader has to remember to look for it.
    fn read<T>(mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let read = read(&mut self);
        self.refuse_left_over();
        read
    }

    fn key(&self, name: &str) -> String {
        join(&self.path, name)
    }

    fn remove(&mut self, name: &'static str) -> Option<Field> {
        self.reader.known.insert(join(&self.pattern, name));
        let Entry { key, node } = self.table.remove(name)?;
        Some(Field { key: self.key(name), name: key, node })
    }

    /// The value of a key of this version.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Field> {
        self.now.push(name);
        self.remove(name)
    }

    /// Refuses a key that only a later version has, named as `shown`.
    pub(super) fn later_as(&mut self, name: &'static str, shown: &str) {
        self.later.push(name);
        if let Some(field) = self.remove(name) {
            let finding = Finding {
                key: field.key,
                message: format!("`{shown}`: not in this version yet"),
                expected: format!("no `{shown}`: not in this version yet"),
                ..Finding::default()
            };
            self.reader.report(&field.name, finding);
        }
    }

    /// Refuses keys that only a later version has.
    pub(super) fn later(&mut self, names: &[&'static str]) {
        for name in names {
            self.later_as(name, name);
        }
    }

    /// Notes that a key has to be there.
    pub(super) fn missing(&mut self, name: &str, form: &Form) {
        if self.broken {
            return;
        }
        let key = self.key(name);
        let finding = Finding {
            message: format!("`{key}` is missing"),
            key,
            expected: format!("`{name}`, {}", form.expected()),
            found: Some("nothing"),
            ..Finding::default()
        };
        let at = self.at.clone();
        self.reader.report(&at, finding);
    }

    /// A text and what it says.
    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        form: &Form,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let field = self.take(name)?;
        self.reader.parse(&field, form, parse)
    }

    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let field = self.take(name)?;
        let range = u64::from(*range.start())..=u64::from(*range.end());
        self.reader.number(&field, &range).and_then(|number| u32::try_from(number).ok())
    }

    /// A number whose upper bound the caller judges.
    pub(super) fn whole(&mut self, field: &Field) -> Option<u64> {
        self.reader.number(field, &(1..=i64::MAX.unsigned_abs()))
    }

    pub(super) fn size(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let field = self.take(name)?;
        self.reader.size(&field, &range)
    }

    pub(super) fn duration(&mut self, name: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let field = self.take(name)?;
        self.reader.duration(&field, &range)
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let field = self.take(name)?;
        if let Value::Flag(flag) = field.node.value {
            return Some(flag);
        }
        self.reader.refuse(
            &field,
            format!("`{}` is neither `true` nor `false`", field.key),
            "`true` or `false`, without quotes".to_owned(),
            None,
        );
        None
    }

    /// A table below this one, empty where it is not there.
    pub(super) fn section<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Section<'_, 'e>) -> T) -> T {
        let field = self.take(name);
        let absent = || Field { key: join(&self.path, name), name: self.at.clone(), node: empty(self.at.clone()) };
        let field = field.unwrap_or_else(absent);
        self.descend(field, join(&self.pattern, name), read)
    }

    /// A table below this one, if it is there.
    pub(super) fn optional<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Section<'_, 'e>) -> T) -> Option<T> {
        let field = self.take(name)?;
        Some(self.descend(field, join(&self.pattern, name), read))
    }

    /// Tables below this one that the user names: `[queue.*]`.
    pub(super) fn named<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&str, &mut Section<'_, 'e>) -> T,
    ) -> BTreeMap<String, T> {
        self.section(name, |section| {
            let (fields, pattern) = (section.drain(), section.any());
            let each = fields.into_iter().map(|(name, field)| {
                if !values::is_name(&name) {
                    let finding = Finding {
                        key: field.key.clone(),
                        message: format!("`{}` is not a name", name.escape_debug()),
                        expected: values::NAME.expected(),
                        ..Finding::default()
                    };
                    section.reader.report(&field.name, finding);
                }
                let value = section.descend(field, pattern.clone(), |section| read(&name, section));
                (name, value)
            });
            each.collect()
        })
    }

    /// The pattern of a key here.
    pub(super) fn pattern(&self, name: &str) -> String {
        join(&self.pattern, name)
    }

    /// The pattern of keys here that the user names.
    pub(super) fn any(&mut self) -> String {
        let pattern = format!("{}.*", self.pattern);
        self.reader.known.insert(pattern.clone());
        pattern
    }

    /// Whether a key is there; this does not ask for it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Whether every key has been asked for.
    pub(super) fn is_read(&self) -> bool {
        self.table.is_empty()
    }

    /// The line where this table stands, from 1.
    pub(super) fn line(&self) -> usize {
        self.reader.line(&self.at)
    }

    /// The pattern of keys in the tables of a list: each of them is read with [`Section::descend`].
    pub(super) fn below(&self, name: &str) -> String {
        join(&self.pattern, name)
    }

    /// All keys that are left, whatever they are.
    pub(super) fn drain(&mut self) -> Vec<(String, Field)> {
        let table = std::mem::take(&mut self.table);
        table
            .into_iter()
            .map(|(name, Entry { key, node })| (name.clone(), Field { key: self.key(&name), name: key, node }))
            .collect()
    }

    /// Reads the table that this value has to be.
    pub(super) fn descend<T>(&mut self, mut field: Field, pattern: String, read: impl FnOnce(&mut Section<'_, 'e>) -> T) -> T {
        let (table, broken) = match std::mem::replace(&mut field.node.value, Value::Taken) {
            Value::Table(table) => (table, false),
            _ => {
                let expected = format!("`[{}]` and its keys below it", field.key);
                self.reader.refuse(&field, format!("`{}` is not a table", field.key), expected, None);
                (Table::new(), true)
            }
        };
        let (path, at) = (field.key, field.name);
        let section = Section { reader: self.reader, path, pattern, at, table, broken, now: Vec::new(), later: Vec::new() };
        section.read(read)
    }

    fn refuse_left_over(&mut self) {
        for (name, field) in self.drain() {
            let nearest = nearest(&name, self.now.iter().chain(&self.later));
            let mut known: Vec<String> = self.now.iter().map(|name| format!("`{name}`")).collect();
            known.sort();
            let expected = match nearest {
                Some((nearest, true)) => format!("`{nearest}`"),
                _ => "a known key".to_owned(),
            };
            let mut notes = match nearest {
                Some((nearest, true)) => vec![format!("did you mean `{nearest}`?")],
                Some((nearest, false)) => vec![format!("the nearest known key is `{nearest}`")],
                None => Vec::new(),
            };
            notes.push(format!("known here: {}", known.join(", ")));
            let message = format!("`{}` is not a known key", field.key);
            self.reader.report(&field.name, Finding { key: field.key, message, expected, notes, found: None });
        }
    }
}

fn empty(place: Place) -> Node {
    Node { value: Value::Table(Table::new()), place, typed: None }
}

/// The name most like this one, and whether it is so near that it may have been meant.
pub(super) fn nearest<'n, N: AsRef<str> + ?Sized + 'n>(
    name: &str,
    known: impl Iterator<Item = &'n N>,
) -> Option<(&'n str, bool)> {
    /// From where on two names look alike: `fule` and `fuel` do (0.95), `depth` and `data` do not (0.71).
    const ALIKE: f64 = 0.8;
    let scored = known.map(|known| (known.as_ref(), strsim::jaro_winkler(name, known.as_ref())));
    let best = scored.max_by(|(_, left), (_, right)| left.total_cmp(right))?;
    Some((best.0, best.1 >= ALIKE))
}

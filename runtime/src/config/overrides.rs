//! `--set handler.x.limits.fuel=1000`: keys given on the command line, laid over those of the file.
//!
//! The value is read as TOML and, where it is none, as a text without quotes; spaces around it do not count. A key given twice: the last one holds.

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Finding, Problem};
use super::tree::{Entry, Node, Place, Source, Table, Value, join, tree};

/// Stands where the file's name would.
pub(super) const NAME: &str = "--set";

/// Lays one override over the table; `source` is its index, as which its places are known.
pub(super) fn apply(root: &mut Table, text: &str, source: (usize, &Source)) -> Result<(), Box<Problem>> {
    let (index, shown) = source;
    let place = |start: usize, end: usize| Place { source: index, span: start..end };
    let refuse = |place: &Place, key: &str, message: &str, expected: &str| {
        let finding =
            Finding { key: key.to_owned(), message: message.to_owned(), expected: expected.to_owned(), ..Finding::default() };
        Err(Box::new(Problem::new(place, shown, finding)))
    };
    let form = "`KEY=VALUE`, such as `handler.email-notifier.limits.fuel=1000`";
    let Some((key, value)) = text.split_once('=') else {
        return refuse(&place(0, text.len()), "", "there is no `=` in this", form);
    };
    // The parser finds the path, and the places of its parts, where a plain value follows it.
    let Some(path) = DeTable::parse(&format!("{key}=0")).ok().and_then(|parsed| single_path(tree(parsed.into_inner(), index)))
    else {
        return refuse(&place(0, key.len()), "", "this is not a key", form);
    };
    let value = value.trim();
    let mut node = match DeValue::parse(value) {
        Ok(parsed) => Node::new(parsed, index),
        Err(_) => Node { value: Value::Text(value.to_owned()), place: place(0, value.len()), typed: None },
    };
    // The value was parsed by itself, without what stands before it.
    shift(&mut node, text.trim_end().len() - value.len());
    node.typed = Some(value.to_owned());

    let mut table = root;
    let mut so_far = String::new();
    let mut parts = path.into_iter().peekable();
    while let Some((name, key)) = parts.next() {
        so_far = join(&so_far, &name);
        if parts.peek().is_none() {
            table.insert(name, Entry { key, node });
            return Ok(());
        }
        let here = key.clone();
        let entry = table.entry(name).or_insert_with(|| {
            let node = Node { value: Value::Table(Table::new()), place: key.clone(), typed: None };
            Entry { key, node }
        });
        let Value::Table(below) = &mut entry.node.value else {
            return refuse(&here, &so_far, &format!("`{so_far}` is not a table, so it holds no keys"), "the name of a table");
        };
        table = below;
    }
    Ok(())
}

/// The keys of a tree that is a single path; none where it is more or less than that.
fn single_path(mut table: Table) -> Option<Vec<(String, Place)>> {
    let mut path = Vec::new();
    loop {
        if table.len() != 1 {
            return None;
        }
        let (name, entry) = table.pop_first()?;
        path.push((name, entry.key));
        match entry.node.value {
            Value::Table(below) => table = below,
            _ => return Some(path),
        }
    }
}

/// Moves the places of a value and of all that is in it.
fn shift(node: &mut Node, by: usize) {
    let moved = |place: &mut Place| place.span = place.span.start + by..place.span.end + by;
    moved(&mut node.place);
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| shift(item, by)),
        Value::Table(table) => {
            for entry in table.values_mut() {
                moved(&mut entry.key);
                shift(&mut entry.node, by);
            }
        }
        Value::Text(_) | Value::Number(_) | Value::Flag(_) | Value::Float(_) | Value::Time(_) | Value::Taken => {}
    }
}

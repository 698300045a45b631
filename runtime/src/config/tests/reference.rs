//! default.toml is the reference page: it lists what the reader knows, and shows the defaults that hold.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::super::{Config, LimitSources, REFERENCE, Surroundings, load};
use super::good;

/// The reference with every key in force.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    REFERENCE.lines().map(line).collect()
}

/// Every key of a table down to where the reader stops asking, names of queues and handlers and keys of `config` as `*`.
fn keys(table: &Table, path: &str, known: &BTreeSet<String>, keys_found: &mut BTreeSet<String>) {
    for (name, value) in table {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let key = if known.contains(&below("*")) { below("*") } else { below(name) };
        keys_found.insert(key.clone());
        // A table, or each of a list of them.
        let tables = match value {
            Value::Array(items) => items.iter().filter_map(Value::as_table).collect(),
            value => Vec::from_iter(value.as_table()),
        };
        if known.iter().any(|known| known.starts_with(&format!("{key}."))) {
            tables.into_iter().for_each(|table| keys(table, &key, known, keys_found));
        }
    }
}

#[test]
fn the_reference_lists_every_key() {
    let text = uncommented();
    let surroundings = Surroundings { env: &|_| None, folder: PathBuf::from("/"), cores: 1 };
    let (_, known) = load::read_known(&text, Path::new("weir.toml"), &[], &surroundings);
    let mut listed = BTreeSet::new();
    keys(&text.parse().unwrap(), "", &known, &mut listed);
    assert_eq!(listed, known);
    assert!(known.contains("handler.*.grants.email.relay") && known.contains("ceilings.compile"), "{known:?}");
}

#[test]
fn keys_marked_later_are_those_that_are_refused() {
    let problems = super::problems(&uncommented(), &[]);
    let marked = |line: &&str| line.contains("(later)") && line.starts_with('#') && !line.starts_with("# ");
    let ceilings = 17;
    // `[ceilings]` is marked once and told key by key.
    assert_eq!(problems.len(), REFERENCE.lines().filter(marked).count() - 1 + ceilings, "{problems:#?}");
    assert!(problems.iter().all(|problem| problem.ends_with("not in this version yet")), "{problems:#?}");
}

#[test]
fn the_reference_shows_the_defaults() {
    let plain = |mut config: Config| {
        for handler in config.handlers.values_mut() {
            handler.limit_sources = LimitSources::default();
        }
        format!("{config:#?}")
    };
    let smallest = r#"
        [queue.events]
        url = "disk:./data/events"
        [handler.email-notifier]
        component = "handlers/email-notifier.wasm"
        queue = "events"
    "#;
    assert_eq!(plain(good(REFERENCE)), plain(good(smallest)));
}

#[test]
fn the_reference_shows_the_ceilings() {
    let table: Table = uncommented().parse().unwrap();
    let shown = |key: &str| match &table["ceilings"][key] {
        Value::Integer(number) => u64::try_from(*number).unwrap(),
        Value::String(text) => super::super::values::size(text)
            .unwrap_or_else(|_| u64::try_from(super::super::values::duration(text).unwrap().as_millis()).unwrap()),
        other => panic!("{other}"),
    };
    let ceilings = super::super::Ceilings::default();
    let table = [
        ("fuel", ceilings.fuel),
        ("memory", ceilings.memory),
        ("deadline", u64::try_from(ceilings.deadline.as_millis()).unwrap()),
        ("total-memory", ceilings.total_memory),
        ("concurrency", ceilings.concurrency.into()),
        ("tables", ceilings.tables),
        ("handles", ceilings.handles.into()),
        ("output", ceilings.output),
        ("requests", ceilings.requests.into()),
        ("publishes", ceilings.publishes.into()),
        ("published", ceilings.published),
        ("response", ceilings.response),
        ("stack", ceilings.stack),
        ("component", ceilings.component),
        ("hops", ceilings.hops.into()),
    ];
    for (key, value) in table {
        assert_eq!(shown(key), value, "{key}");
    }
}

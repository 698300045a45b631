//! `[handler.*.limits]`, each under its ceiling, and where its value came from. It enforces nothing: the sandbox does.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::reader::Field;
use super::section::Section;
use super::tree::Value;
use super::values::{fmt_duration, fmt_size};
use super::{Ceilings, HandlerConfig, Limits};

/// Where the value of a limit came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// It was not written.
    #[default]
    Default,
    /// It stands in weir.toml.
    File,
    /// It was not written, and the default is above the ceiling.
    Ceiling,
    /// It was given with `--set`.
    Override,
}

impl Origin {
    /// As in `check --json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "weir.toml",
            Self::Ceiling => "ceiling",
            Self::Override => "--set",
        }
    }
}

/// Where each limit of a handler came from, by its key; what is not in here is a default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitSources(BTreeMap<&'static str, Origin>);

impl LimitSources {
    /// Of one limit, by its key.
    #[must_use]
    pub fn get(&self, name: &str) -> Origin {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// The value of a limit, shown as weir.toml writes it: a number, a size or a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitValue {
    /// How many.
    Count(u64),
    /// Bytes.
    Size(u64),
    /// How long.
    Time(Duration),
}

impl fmt::Display for LimitValue {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Size(bytes) => f.write_str(&fmt_size(*bytes)),
            Self::Time(duration) => f.write_str(&fmt_duration(*duration)),
        }
    }
}

/// A count is a number, the others are texts.
impl Serialize for LimitValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::Size(_) | Self::Time(_) => serializer.collect_str(self),
        }
    }
}

/// One effective limit, for `weir check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownLimit {
    /// Its key in weir.toml.
    pub name: &'static str,
    /// What holds.
    pub value: LimitValue,
    /// Why it holds.
    pub from: Origin,
}

/// The defaults of surface.md §1.
impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 100_000_000,
            memory: 64 << 20,
            tables: 100_000,
            handles: 1_000,
            deadline: Duration::from_secs(30),
            output: 256 << 10,
            requests: 20,
            publishes: 100,
            published: 4 << 20,
            response: 8 << 20,
        }
    }
}

impl HandlerConfig {
    /// The limits that bind in this version, with where each came from.
    #[must_use]
    pub fn shown_limits(&self) -> Vec<ShownLimit> {
        let limits = &self.limits;
        let values = [
            ("fuel", LimitValue::Count(limits.fuel)),
            ("memory", LimitValue::Size(limits.memory)),
            ("tables", LimitValue::Count(limits.tables)),
            ("handles", LimitValue::Count(limits.handles.into())),
            ("deadline", LimitValue::Time(limits.deadline)),
            ("output", LimitValue::Size(limits.output)),
            ("requests", LimitValue::Count(limits.requests.into())),
            ("publishes", LimitValue::Count(limits.publishes.into())),
            ("published", LimitValue::Size(limits.published)),
            ("response", LimitValue::Size(limits.response)),
        ];
        values.into_iter().map(|(name, value)| ShownLimit { name, value, from: self.limit_sources.get(name) }).collect()
    }
}

/// A limit not yet read.
struct Bound {
    name: &'static str,
    default: LimitValue,
    ceiling: LimitValue,
}

pub(super) fn read(section: &mut Section<'_, '_>, ceilings: &Ceilings) -> (Limits, LimitSources) {
    use LimitValue::{Count, Size, Time};
    let default = Limits::default();
    let mut sources = LimitSources::default();
    let mut limit = |name, default, ceiling| {
        let (value, origin) = bounded(section, &Bound { name, default, ceiling });
        if origin != Origin::Default {
            sources.0.insert(name, origin);
        }
        value
    };
    let count = |value: LimitValue| match value {
        Count(value) | Size(value) => value,
        Time(_) => 0,
    };
    let small = |value: LimitValue| u32::try_from(count(value)).unwrap_or(u32::MAX);
    let limits = Limits {
        fuel: count(limit("fuel", Count(default.fuel), Count(ceilings.fuel))),
        memory: count(limit("memory", Size(default.memory), Size(ceilings.memory))),
        tables: count(limit("tables", Count(default.tables), Count(ceilings.tables))),
        handles: small(limit("handles", Count(default.handles.into()), Count(ceilings.handles.into()))),
        deadline: match limit("deadline", Time(default.deadline), Time(ceilings.deadline)) {
            Time(deadline) => deadline,
            Count(_) | Size(_) => default.deadline,
        },
        output: count(limit("output", Size(default.output), Size(ceilings.output))),
        requests: small(limit("requests", Count(default.requests.into()), Count(ceilings.requests.into()))),
        publishes: small(limit("publishes", Count(default.publishes.into()), Count(ceilings.publishes.into()))),
        published: count(limit("published", Size(default.published), Size(ceilings.published))),
        response: count(limit("response", Size(default.response), Size(ceilings.response))),
    };
    (limits, sources)
}

/// The default of `parked` (delivery.md §4).
const PARKED: u64 = 1_000;

/// `parked` has a ceiling too. At least one: with none, nothing could wait for its lane.
pub(super) fn parked(section: &mut Section<'_, '_>, ceilings: &Ceilings) -> u32 {
    let ceiling = LimitValue::Count(ceilings.parked.into());
    let bound = Bound { name: "parked", default: LimitValue::Count(PARKED), ceiling };
    let value = match section.take(bound.name) {
        Some(field) => within(section, &field, &bound).0,
        None => lowered(&bound).0,
    };
    let LimitValue::Count(count) = value else { return ceilings.parked };
    u32::try_from(count).unwrap_or(ceilings.parked).max(1)
}

/// What `concurrency` has to be enough for.
pub(super) struct Needs {
    /// The queues that the handler reads share it, so each needs a part.
    pub(super) queues: usize,
    /// Each of the parts has to hold a batch; one that is written too small is `batch.size`'s to be told.
    pub(super) batch: usize,
}

/// `concurrency` has a ceiling too, but is no limit of one event.
pub(super) fn concurrency(section: &mut Section<'_, '_>, per_core: usize, needs: &Needs, ceilings: &Ceilings) -> u32 {
    let cores = section.reader.surroundings.cores;
    let queues = needs.queues;
    let whole = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let default = whole(cores.saturating_mul(per_core).max(queues.saturating_mul(needs.batch)).max(1));
    let ceiling = LimitValue::Count(ceilings.concurrency.into());
    let bound = Bound { name: "concurrency", default: LimitValue::Count(default), ceiling };
    let field = section.take(bound.name);
    let value = field.as_ref().map_or_else(|| lowered(&bound), |field| within(section, field, &bound)).0;
    let LimitValue::Count(count) = value else { return ceilings.concurrency };
    if let Some(field) = field.filter(|_| count < whole(queues)) {
        let message = format!("`{}` is less than the queues that the handler reads", field.key);
        section.reader.refuse(&field, message, format!("at least `{queues}`, so that each queue gets a part"), None);
    }
    u32::try_from(count).unwrap_or(ceilings.concurrency)
}

/// What was written, refused above its ceiling; else the default, lowered to it.
fn bounded(section: &mut Section<'_, '_>, bound: &Bound) -> (LimitValue, Origin) {
    match section.take(bound.name) {
        Some(field) => within(section, &field, bound),
        None => lowered(bound),
    }
}

fn within(section: &mut Section<'_, '_>, field: &Field, bound: &Bound) -> (LimitValue, Origin) {
    let Some(value) = written(section, field, bound) else { return lowered(bound) };
    if above(value, bound.ceiling) {
        let message = format!("`{}` is above its ceiling", field.key);
        let expected = format!("at most `{}`, which is `ceilings.{}`", bound.ceiling, bound.name);
        section.reader.refuse(field, message, expected, None);
        return lowered(bound);
    }
    (value, if field.node.place.source == 0 { Origin::File } else { Origin::Override })
}

fn lowered(bound: &Bound) -> (LimitValue, Origin) {
    if above(bound.default, bound.ceiling) { (bound.ceiling, Origin::Ceiling) } else { (bound.default, Origin::Default) }
}

fn written(section: &mut Section<'_, '_>, field: &Field, bound: &Bound) -> Option<LimitValue> {
    match bound.default {
        LimitValue::Count(_) if bound.name == "fuel" && matches!(&field.node.value, Value::Text(text) if text == "off") => {
            let message = "`fuel = \"off\"`: not in this version yet".to_owned();
            let expected = format!("a number of at most `{}`; `\"off\"` is not in this version yet", bound.ceiling);
            section.reader.refuse(field, message, expected, None);
            None
        }
        LimitValue::Count(_) => section.whole(field).map(LimitValue::Count),
        LimitValue::Size(_) => section.reader.size(field, &(1..=i64::MAX.unsigned_abs())).map(LimitValue::Size),
        LimitValue::Time(_) => section.reader.duration(field, &(Duration::from_millis(1)..=Duration::MAX)).map(LimitValue::Time),
    }
}

fn above(value: LimitValue, ceiling: LimitValue) -> bool {
    use LimitValue::{Count, Size, Time};
    match (value, ceiling) {
        (Count(value), Count(ceiling)) | (Size(value), Size(ceiling)) => value > ceiling,
        (Time(value), Time(ceiling)) => value > ceiling,
        _ => false,
    }
}

/// `[ceilings]` comes later: until then the pool is sized by the defaults, so that another one would not hold.
pub(super) fn refuse_ceilings(section: &mut Section<'_, '_>) {
    const KEYS: [(&str, &str); 17] = [
        ("fuel", "ceilings.fuel"),
        ("memory", "ceilings.memory"),
        ("deadline", "ceilings.deadline"),
        ("total-memory", "ceilings.total-memory"),
        ("concurrency", "ceilings.concurrency"),
        ("parked", "ceilings.parked"),
        ("tables", "ceilings.tables"),
        ("handles", "ceilings.handles"),
        ("output", "ceilings.output"),
        ("publishes", "ceilings.publishes"),
        ("published", "ceilings.published"),
        ("requests", "ceilings.requests"),
        ("response", "ceilings.response"),
        ("stack", "ceilings.stack"),
        ("component", "ceilings.component"),
        ("compile", "ceilings.compile"),
        ("hops", "ceilings.hops"),
    ];
    for (name, shown) in KEYS {
        section.later_as(name, shown);
    }
}

#[cfg(test)]
mod tests {
    use super::LimitValue::{Count, Size, Time};
    use super::*;

    #[test]
    fn a_default_is_lowered_to_its_ceiling() {
        let seconds = |seconds| Time(Duration::from_secs(seconds));
        let table = [
            (Count(5), Count(6), Count(5), Origin::Default),
            (Count(6), Count(6), Count(6), Origin::Default),
            (Count(7), Count(6), Count(6), Origin::Ceiling),
            (Size(7), Size(6), Size(6), Origin::Ceiling),
            (seconds(7), seconds(6), seconds(6), Origin::Ceiling),
        ];
        for (default, ceiling, value, origin) in table {
            assert_eq!(lowered(&Bound { name: "x", default, ceiling }), (value, origin));
        }
    }
}

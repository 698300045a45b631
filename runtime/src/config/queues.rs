//! `[queue.*]`. The URLs themselves are read by `queue/url.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::diagnostic::Finding;
use super::reader::Field;
use super::section::Section;
use super::values::Form;
use super::{HandlerConfig, QueueConfig};
use crate::dead::{self, DeadBounds};
use crate::queue::Start;
use crate::queue::url::QueueUrl;
use crate::source::map::EventMap;

const URL: Form = Form::new("a queue URL of this version", "such as `disk:./data/events` or `memory:`");
const TYPE: Form =
    Form::new("an event type", "such as `com.example.raw`: at most 256 characters, none of them a control character");
const DEAD: Form = Form::new("the name of another queue", "such as `graveyard`");
const FALLBACK: Form = Form::new("an embedded queue", "such as `disk:./data/late`");
const POINTER: Form = Form::new("a JSON pointer (RFC 6901)", "such as `/payload`, `/meta/0` or `/a~1b`");
const KEY: Form = Form::new("an attribute that groups events", "such as `partitionkey` or `subject`");
const START: Form = Form::new("where a new subscription begins", "`\"new\"` or `\"all\"`");

/// Types are in labels of logs and in every event: nobody writes longer ones by intention.
const TYPE_CHARS_MAX: usize = 256;

/// A disk has room; a process shares its memory with the sandboxes.
const DISK_MAX_SIZE: u64 = 10 << 30;
const MEMORY_MAX_SIZE: u64 = 64 << 20;
/// Nobody looks at dead letters that are gone sooner.
const DEAD_KEEP_MIN: Duration = Duration::from_secs(60);
/// Longer than any server runs unattended; the bytes bind before.
const DEAD_KEEP_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// One dead letter with an ordinary event and its log fits.
const DEAD_MAX_MIN: u64 = 64 << 10;

/// What was read of `[queue.*]`.
pub(super) struct Queues {
    /// Those that can be opened.
    pub(super) configs: BTreeMap<String, QueueConfig>,
    /// All that are named, so that a mistake in one is told once.
    pub(super) names: BTreeSet<String>,
    /// Where the URLs stand that take over a group, which is for one handler.
    groups: BTreeMap<String, Field>,
}

/// What the queues before this one have.
#[derive(Default)]
struct Seen {
    folders: BTreeMap<PathBuf, String>,
    #[cfg(feature = "redis")]
    streams: BTreeMap<String, String>,
    groups: BTreeMap<String, Field>,
    /// Where `dead` stands, of which queue, and what it names.
    dead: Vec<(Field, String, String)>,
}

impl Queues {
    /// A group that is taken over has one position, for one handler.
    pub(super) fn refuse_shared_groups(&self, root: &mut Section<'_, '_>, handlers: &BTreeMap<String, HandlerConfig>) {
        for (queue, field) in &self.groups {
            let reads = |handler: &HandlerConfig| handler.queues.iter().any(|name| name == queue);
            let readers: Vec<String> =
                handlers.iter().filter(|(_, handler)| reads(handler)).map(|(name, _)| format!("`{name}`")).collect();
            if readers.len() > 1 {
                let message = format!("`group=` is for one handler, and {} read queue `{queue}`", readers.join(" and "));
                root.reader.refuse(field, message, "no `group=`, or one handler".to_owned(), None);
            }
        }
    }
}

pub(super) fn read(root: &mut Section<'_, '_>) -> Queues {
    let mut seen = Seen::default();
    let read = root.named("queue", |name, section| queue(name, section, &mut seen));
    let names: BTreeSet<String> = read.keys().cloned().collect();
    for (field, queue, target) in seen.dead {
        if target == queue {
            let message = format!("`{}` names the queue itself", field.key);
            root.reader.refuse(&field, message, "another queue".to_owned(), None);
        } else if !names.contains(&target) {
            root.reader.report(&field.node.place, undefined(&field.key, &target, &names));
        }
    }
    let configs = read.into_iter().filter_map(|(name, config)| Some((name, config?))).collect();
    Queues { configs, names, groups: seen.groups }
}

/// Of a queue that may stand in `weir.toml` once only: where it is, and what that is called.
fn place(url: &QueueUrl) -> Option<(String, &'static str)> {
    match url {
        #[cfg(feature = "redis")]
        QueueUrl::Redis(stream) => Some((stream.to_string(), "stream")),
        #[cfg(feature = "redis")]
        QueueUrl::RedisTaken(taken) => Some((taken.to_string(), "list or sorted set")),
        #[cfg(feature = "kafka")]
        QueueUrl::Kafka(topic) => Some((topic.to_string(), "topic")),
        _ => None,
    }
}

fn queue(name: &str, section: &mut Section<'_, '_>, seen: &mut Seen) -> Option<QueueConfig> {
    let url = match section.take("url") {
        Some(field) => {
            let base = section.reader.base(&field);
            let url = section.reader.parse(&field, &URL, |text| QueueUrl::parse(text, &base));
            if let Some(QueueUrl::Disk(folder)) = &url
                && let Some(other) = seen.folders.insert(plain(folder), name.to_owned())
            {
                let message = format!("queues `{other}` and `{name}` have the same folder");
                section.reader.refuse(&field, message, "a folder of its own for each queue".to_owned(), None);
            }
            if let Some((place, what)) = url.as_ref().and_then(place)
                && let Some(other) = seen.streams.insert(place, name.to_owned())
            {
                let message = format!("queues `{other}` and `{name}` have the same {what}");
                section.reader.refuse(&field, message, format!("a {what} of its own for each queue"), None);
            }
            if url.as_ref().is_some_and(QueueUrl::takes_group) {
                seen.groups.insert(name.to_owned(), field);
            }
            url
        }
        None => {
            section.missing("url", &URL);
            None
        }
    };
    let fallback = fallback(name, section, url.as_ref(), seen);
    let default_max_size = if matches!(url, Some(QueueUrl::Memory)) { MEMORY_MAX_SIZE } else { DISK_MAX_SIZE };
    let kind = section.parsed("type", &TYPE, kind).unwrap_or_else(|| super::KIND.to_owned());
    let key = section.parsed("key", &KEY, super::handlers::attribute);
    let map = map(section);
    let start = section.parsed("start", &START, start).unwrap_or(Start::New);
    let ingress = section.flag("ingress").unwrap_or(true);
    let has_bound = fallback.is_some() || url.as_ref().is_none_or(is_embedded);
    if !has_bound && let Some(field) = section.take("max-size") {
        let message = "a queue on a broker has no `max-size`".to_owned();
        section.reader.refuse(
            &field,
            message,
            "the broker's own bound (for a Redis stream `maxlen=` in its URL), or a `fallback`, which it bounds".to_owned(),
            None,
        );
    }
    let max_size = section.size("max-size", 1..=i64::MAX.unsigned_abs()).unwrap_or(default_max_size);
    let dead_bounds = DeadBounds {
        keep: section.duration("dead-keep", DEAD_KEEP_MIN..=DEAD_KEEP_MAX).unwrap_or(dead::DEAD_KEEP),
        bytes: section.size("dead-max", DEAD_MAX_MIN..=i64::MAX.unsigned_abs()).unwrap_or(dead::DEAD_BYTES_MAX),
    };
    let dead = section.take("dead").and_then(|field| {
        let target = section.reader.parse(&field, &DEAD, |text| Ok(text.to_owned()))?;
        seen.dead.push((field, name.to_owned(), target.clone()));
        Some(target)
    });
    Some(QueueConfig { url: url?, kind, key, map, start, ingress, max_size, dead_bounds, dead, fallback })
}

fn is_embedded(url: &QueueUrl) -> bool {
    matches!(url, QueueUrl::Memory | QueueUrl::Disk(_))
}

/// `fallback`: an embedded queue that outlives the process, beside a broker that may be away.
fn fallback(name: &str, section: &mut Section<'_, '_>, url: Option<&QueueUrl>, seen: &mut Seen) -> Option<PathBuf> {
    let field = section.take("fallback")?;
    let base = section.reader.base(&field);
    let folder = section.reader.parse(&field, &FALLBACK, |text| match QueueUrl::parse(text, &base)? {
        QueueUrl::Disk(folder) => Ok(folder),
        _ => Err("only `disk:` keeps what was accepted over a crash".to_owned()),
    })?;
    if url.is_some_and(is_embedded) {
        let message = format!("queue `{name}` is embedded: it is never away");
        section.reader.refuse(&field, message, "no `fallback`, or the URL of a broker in `url`".to_owned(), None);
    } else if let Some(other) = seen.folders.insert(plain(&folder), name.to_owned()) {
        let message = format!("the fallback of `{name}` has the folder of `{other}`");
        section.reader.refuse(&field, message, "a folder of its own for each queue and each fallback".to_owned(), None);
    }
    Some(folder)
}

/// `map`: JSON pointers by what they are for.
fn map(section: &mut Section<'_, '_>) -> Option<Arc<EventMap>> {
    let field = section.take("map")?;
    let below = section.below("map");
    if matches!(&field.node.value, super::tree::Value::Table(table) if table.is_empty()) {
        let expected = "at least one pointer, such as `{ type = \"/topic\" }`".to_owned();
        section.reader.refuse(&field, format!("`{}` maps nothing", field.key), expected, None);
    }
    let pointers = section.descend(field, below, |section| {
        section.any();
        let mut pointers = Vec::new();
        for (name, field) in section.drain() {
            if EventMap::takes(&name) {
                pointers.extend(section.reader.parse(&field, &POINTER, str::parse).map(|pointer| (name, pointer)));
            } else {
                let message = format!("`{}` is nothing that can be mapped", field.key);
                let (key, expected) = (field.key, EventMap::NAMES.to_owned());
                section.reader.report(&field.name, Finding { key, message, expected, ..Finding::default() });
            }
        }
        pointers
    });
    (!pointers.is_empty()).then(|| Arc::new(EventMap::new(pointers)))
}

fn kind(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.chars().count() <= TYPE_CHARS_MAX && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(String::new()) }
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "new" => Ok(Start::New),
        "all" => Ok(Start::All),
        _ => Err(String::new()),
    }
}

/// The same folder written in one way; links are not followed, the adapter's lock sees those.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// The queues that a handler reads: one name, or a list of them; each defined.
pub(super) fn names(section: &mut Section<'_, '_>, known: &BTreeSet<String>) -> Option<Vec<String>> {
    const QUEUE: Form = Form::new("the name of a queue", "such as `\"events\"`, or a list of them");
    let Some(field) = section.take("queue") else {
        section.missing("queue", &QUEUE);
        return None;
    };
    let items = match &field.node.value {
        super::tree::Value::List(_) => section.reader.list(&field, &QUEUE)?,
        _ => vec![super::reader::Field { key: field.key.clone(), name: field.name.clone(), node: field.node.clone() }],
    };
    if items.is_empty() {
        section.reader.refuse(&field, format!("`{}` is an empty list", field.key), QUEUE.expected(), None);
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for item in &items {
        let Some(name) = section.reader.parse(item, &QUEUE, |text| Ok(text.to_owned())) else { continue };
        if names.contains(&name) {
            section.reader.refuse(item, format!("`{}` names a queue twice", item.key), "each queue once".to_owned(), None);
        } else if known.contains(&name) {
            names.push(name);
        } else {
            let finding = undefined(&item.key, &name, known);
            section.reader.report(&item.node.place, finding);
        }
    }
    (!names.is_empty()).then_some(names)
}

pub(super) fn undefined(key: &str, name: &str, known: &BTreeSet<String>) -> Finding {
    // The name may have come through `${…}`: what is shown of it is what was written.
    let nearest = super::section::nearest(name, known.iter()).filter(|(_, alike)| *alike);
    let listed: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
    let expected = match listed.is_empty() {
        true => "a `[queue.NAME]` table that defines it: there is none yet".to_owned(),
        false => format!("a queue that is defined (known: {})", listed.join(", ")),
    };
    Finding {
        key: key.to_owned(),
        message: format!("`{key}` names a queue that is not defined"),
        expected,
        notes: nearest.map(|(nearest, _)| format!("did you mean `{nearest}`?")).into_iter().collect(),
        found: None,
    }
}

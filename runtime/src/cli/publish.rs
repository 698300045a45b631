//! `weir publish`: one event from flags, or many from stdin, through a running server or straight into the queue.
//!
//! `publish/lines.rs` reads many; `publish/sink.rs` is where they go.

pub(super) mod lines;
pub(super) mod sink;

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::lines::Import;
use self::sink::Sink;
use super::client::{Found, ServerArgs};
use super::direct::{self, Direct};
use super::output::{CliError, Global, Output, note};
use crate::clock;
use crate::event::Event;
use crate::queue::url::QueueUrl;
use crate::source::http::Accepted;
use crate::source::map::EventMap;
use crate::source::{self, Intake, delay, raw};

/// The type of wrapped events and the largest event, where no configuration says otherwise (surface.md §1).
pub(super) const TYPE: &str = "weir.raw";
const MAX_EVENT: u64 = 1 << 20;

/// Most bytes of `--data-file`: anything larger is refused by every queue of a default configuration, and by most.
const DATA_FILE_MAX: u64 = 256 << 20;

/// Puts events into a queue: one from options, or many from stdin.
#[derive(Debug, clap::Args)]
pub struct Publish {
    /// A queue's name in weir.toml, or a queue URL, which is opened directly.
    pub queue: String,
    /// The event's type; with --stdin the type of lines that are no CloudEvents.
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "stdin")]
    pub kind: Option<String>,
    /// Reads newline-delimited CloudEvents in JSON, or any JSON object a line.
    #[arg(long, conflicts_with_all = ["source", "id", "subject", "ext", "data", "data_file"])]
    pub stdin: bool,
    /// The event's attributes and data.
    #[command(flatten)]
    pub event: EventArgs,
    /// Holds the event back: `10m`.
    #[arg(long, value_name = "DURATION")]
    pub delay: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// What one event is made of.
#[derive(Debug, Default, clap::Args)]
pub struct EventArgs {
    /// Its source; default: `/weir/queue/QUEUE`.
    #[arg(long, value_name = "URI")]
    pub source: Option<String>,
    /// Its id; default: a fresh one.
    #[arg(long)]
    pub id: Option<String>,
    /// Its subject.
    #[arg(long)]
    pub subject: Option<String>,
    /// An extension attribute, or `time`, `datacontenttype`, `dataschema`.
    #[arg(long, value_name = "NAME=VALUE")]
    pub ext: Vec<String>,
    /// Its data, JSON.
    #[arg(long, value_name = "JSON", conflicts_with = "data_file")]
    pub data: Option<String>,
    /// Its data, from a file: JSON when it parses, else bytes. `-` is stdin.
    #[arg(long, value_name = "FILE")]
    pub data_file: Option<PathBuf>,
}

/// Publishes and prints what was accepted.
///
/// # Errors
/// When the command line is wrong, or the queue did not take all of it.
pub fn run(args: &Publish, global: &Global) -> Result<(), CliError> {
    Output::stdout(|output| run_to(args, global, output))
}

pub(super) fn run_to(args: &Publish, global: &Global, output: &mut Output) -> Result<(), CliError> {
    let delay = args.delay.as_deref().map(delay::delay).transpose();
    let delay = delay.map_err(|why| CliError::Wrong(format!("`--delay`: {why}")))?;
    let place = Place::of(args, global)?;
    let (kind, map) = (place.kind.as_str(), place.map.as_deref());
    let intake = Intake { queue: &place.name, kind, map, max_event: place.max_event, now: clock::now() };
    if args.stdin {
        let mut reader = io::BufReader::with_capacity(lines::READ_AHEAD, io::stdin().lock());
        return Import::new(&place.sink, intake, delay).run(&mut reader, output, global.json);
    }
    let data = args.event.read_data()?;
    let kind = args.kind.clone().unwrap_or_default();
    let event = args.event.build(kind, data, &intake).map_err(CliError::Wrong)?;
    let id = event.id.clone();
    publish_one(&place.sink, event, delay)?;
    if global.json { output.json(&Accepted { accepted: 1, ids: vec![id] }) } else { output.line(&format!("accepted {id}")) }
}

fn publish_one(sink: &Sink, event: Event, delay: Option<Duration>) -> Result<(), CliError> {
    sink.publish(&[Arc::new(event)], delay).map_err(|stopped| stopped.error)
}

/// Where events go, and what is known of it.
struct Place {
    sink: Sink,
    name: String,
    kind: String,
    map: Option<Arc<EventMap>>,
    max_event: u64,
}

impl Place {
    fn of(args: &Publish, global: &Global) -> Result<Self, CliError> {
        let own_kind = args.kind.clone();
        if args.queue.contains(':') {
            let folder = std::env::current_dir()?;
            let url = QueueUrl::parse(&args.queue, &folder).map_err(CliError::Wrong)?;
            let name = name_of(&url);
            let sink = Sink::direct(&name, Direct::open(&name, &url, direct::MAX_SIZE)?);
            let kind = own_kind.unwrap_or_else(|| TYPE.to_owned());
            return Ok(Self { sink, name, kind, map: None, max_event: MAX_EVENT });
        }
        let name = args.queue.clone();
        // With --server there may be no configuration here at all; where there is one, it knows the queue.
        let config = match global.load() {
            Ok(config) => {
                direct::queue_of(&config, &name)?;
                Some(config)
            }
            Err(_) if args.server.server.is_some() => None,
            Err(error) => return Err(error),
        };
        let queue = config.as_ref().and_then(|config| config.queues.get(&name));
        let kind = own_kind.or_else(|| Some(queue?.kind.clone())).unwrap_or_else(|| TYPE.to_owned());
        let map = queue.and_then(|queue| queue.map.clone());
        let max_event = config.as_ref().map_or(MAX_EVENT, |config| config.server.max_event);
        let sink = match args.server.find(global)? {
            Found::Server(client) => Sink::server(&name, client),
            Found::Nobody(why) => {
                let config = config.map_or_else(|| global.load(), Ok)?;
                let queue = direct::queue_of(&config, &name)?;
                note(&format!("{why}; opening queue `{name}` ({}) directly", queue.url));
                // It has delayed events where the broker can't hold them.
                let needs_store = args.delay.is_some() && direct::needs_store(&queue.url);
                let store = needs_store.then(|| direct::made_store(&config)).transpose()?;
                Sink::direct(&name, Direct::named(&config, &name, queue, store)?)
            }
        };
        Ok(Self { sink, name, kind, map, max_event })
    }
}

/// What a queue without a name is called in the `source` of events: its folder's or stream's name, as far as it can be a queue's.
pub(super) fn name_of(url: &QueueUrl) -> String {
    let folder = match url {
        QueueUrl::Disk(folder) => folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default(),
        QueueUrl::Memory => String::new(),
        #[cfg(feature = "redis")]
        QueueUrl::Redis(stream) => stream.stream.to_lowercase(),
        #[cfg(feature = "mqtt")]
        QueueUrl::Mqtt(topic) => topic.filter.to_lowercase(),
        #[cfg(feature = "redis")]
        QueueUrl::RedisTaken(taken) => taken.key.to_lowercase(),
        #[cfg(feature = "redis")]
        QueueUrl::RedisChannel(channel) => channel.name().to_lowercase(),
        #[cfg(feature = "nats")]
        QueueUrl::Nats(url) => url.stream.as_ref().unwrap_or(&url.subject).to_lowercase(),
        #[cfg(feature = "nsq")]
        QueueUrl::Nsq(topic) => topic.topic.to_lowercase(),
        #[cfg(feature = "kafka")]
        QueueUrl::Kafka(topic) => topic.topic.to_lowercase(),
        #[cfg(feature = "amqp")]
        QueueUrl::Amqp(url) => url.place.name().to_lowercase(),
    };
    let name: String = folder.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    if name.starts_with(|c: char| c.is_ascii_lowercase()) { name } else { url.adapter().to_owned() }
}

impl EventArgs {
    /// The bytes of the data and, where it is not JSON, its media type.
    fn read_data(&self) -> Result<Option<Bytes>, CliError> {
        if let Some(text) = &self.data {
            return match serde_json::from_str::<&serde_json::value::RawValue>(text) {
                Ok(_) => Ok(Some(Bytes::from(text.clone()))),
                Err(error) => Err(CliError::Wrong(format!("`--data` is not JSON: {error} (a text needs quotes: '\"text\"')"))),
            };
        }
        self.data_file.as_deref().map(read_file).transpose()
    }

    fn build(&self, kind: String, data: Option<Bytes>, intake: &Intake) -> Result<Event, String> {
        let mut event = raw::envelope(intake);
        let wrong = |error: crate::event::EventError| error.to_string();
        event.set("type", kind).map_err(wrong)?;
        for (name, value) in [("source", &self.source), ("id", &self.id), ("subject", &self.subject)] {
            if let Some(value) = value {
                event.set(name, value.clone()).map_err(wrong)?;
            }
        }
        for pair in &self.ext {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("`--ext {pair}` is not of the form `NAME=VALUE`"))?;
            if ["id", "source", "type", "subject", "specversion"].contains(&name) {
                return Err(format!("`--ext {pair}`: `{name}` is no extension (use `--{name}`)"));
            }
            event.set(name, value.to_owned()).map_err(wrong)?;
        }
        event.complete().map_err(wrong)?;
        let media_type = event.datacontenttype.clone();
        if let Some(data) = data {
            source::set_data(&mut event, media_type.as_deref(), &data).map_err(|problem| problem.to_string())?;
        }
        source::accept(event, intake).map_err(|problem| problem.to_string())
    }
}

fn read_file(path: &Path) -> Result<Bytes, CliError> {
    let shown = path.display();
    let mut data = Vec::new();
    let read = match path.to_str() {
        Some("-") => io::stdin().lock().take(DATA_FILE_MAX + 1).read_to_end(&mut data),
        _ => std::fs::File::open(path).and_then(|file| file.take(DATA_FILE_MAX + 1).read_to_end(&mut data)),
    };
    match read {
        Ok(_) if data.len() as u64 > DATA_FILE_MAX => {
            Err(CliError::Wrong(format!("`{shown}` is larger than any event ({DATA_FILE_MAX} bytes)")))
        }
        Ok(_) => Ok(Bytes::from(data)),
        Err(error) => Err(CliError::Wrong(format!("`{shown}` can't be read: {error}"))),
    }
}

/// Says on stderr how far it is: a line that moves on a terminal, else one now and then.
struct Progress {
    bar: Option<indicatif::ProgressBar>,
    said: u64,
}

/// Events between two lines where stderr is no terminal: a few seconds of work.
const SAY_EVERY: u64 = 100_000;

impl Progress {
    fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = indicatif::ProgressBar::new_spinner();
            // The template is fixed and tested; another would only look different.
            if let Ok(style) = indicatif::ProgressStyle::with_template("{spinner} {pos} events accepted, {per_sec}, {elapsed}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, said: 0 }
    }

    fn at(&mut self, accepted: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(accepted),
            None if accepted >= self.said + SAY_EVERY => {
                self.said = accepted;
                note(&format!("{accepted} events accepted"));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests;

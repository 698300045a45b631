//! `weir try`: one event or dead letter through a handler on this machine, so that a fix is tried before it is deployed. `trial.rs` runs
//! it; this finds out what is tried as which handler, and says what it came to.

mod live;
mod shown;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use self::shown::print;
use super::client::ServerArgs;
use super::output::{CliError, EXIT_FAILED, Global, Output, note};
use super::publish::lines;
use super::{dead, direct};
use crate::clock;
use crate::config::{self, Config, HandlerConfig, Surroundings};
use crate::dead::{DeadLetter, json};
use crate::event::Event;
use crate::outcome::Outcome;
use crate::sandbox::read_bounded;
use crate::source::Intake;
use crate::source::http::STRUCTURED_BODY_MAX;
use crate::trial::{Effects, Place, Trial};

/// The name of the handler and of the queue where no configured one is meant.
const NOBODY: &str = "try";

/// What such a handler is: every default, and no grant.
const DEFAULTS: &str = "[queue.try]\nurl = \"memory:\"\n[handler.try]\nqueue = \"try\"\ncomponent = \"try.wasm\"\n";

/// Runs one event or dead letter here: what it comes to, what it costs, which mails it would send.
///
/// It runs in the sandbox and under the limits of the server. Mail is not sent, nothing is published and no HTTP request leaves unless
/// --live is given.
/// Exit code 0 when the handler is done, 1 when the event would be tried again or given up, 2 when the component can't be used.
#[derive(Debug, clap::Args)]
pub struct Try {
    /// The id of a dead letter, from `weir dead list`; or a file with an event in JSON, or with a dead letter as `show --json` prints it.
    #[arg(value_name = "ID|EVENT.json")]
    pub what: String,
    /// A component to run instead of the handler's own, under the handler's limits, with its configuration and grants.
    #[arg(value_name = "FILE.wasm")]
    pub component: Option<PathBuf>,
    /// The handler of weir.toml that it is tried as. Default: the dead letter's, else the only one; else, with FILE.wasm, one with
    /// default limits and no grants.
    #[arg(long, value_name = "NAME")]
    pub handler: Option<String>,
    /// Really sends the mails, makes the HTTP requests and publishes the events.
    #[arg(long)]
    pub live: bool,
    /// Which server is asked for a dead letter.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Runs the command.
///
/// # Errors
/// When there is no such event, handler or component, or it can't be run. What the handler does is the result.
pub fn run(args: &Try, global: &Global) -> Result<ExitCode, CliError> {
    Output::stdout(|output| run_to(args, global, output))
}

pub(super) fn run_to(args: &Try, global: &Global, output: &mut Output) -> Result<ExitCode, CliError> {
    let found = Found::of(args, global)?;
    let config = found.config(args, global)?;
    let general = defaults(if config.is_none() { &global.set } else { &[] })?;
    let trial = found.trial(args, config.as_ref(), &general)?;
    let config = config.unwrap_or(general);
    let runtime = direct::runtime()?;
    let effects = effects(args, &config, &trial)?;
    let tried = runtime.block_on(async { Place::new(&config, effects).run(&trial).await });
    let tried = tried.map_err(|problem| CliError::Wrong(format!("handler `{}`: {problem}", trial.handler)))?;
    if global.json {
        output.json(&tried)?
    } else {
        print(&trial, &tried, output)?
    }
    if args.live {
        live::publish(&tried.published, &args.server, (&config, global))?;
    }
    match tried.report.outcome {
        Outcome::Done => Ok(ExitCode::SUCCESS),
        Outcome::Load { .. } => Err(CliError::Wrong(format!("handler `{}` can't be instantiated", trial.handler))),
        _ => Ok(ExitCode::from(EXIT_FAILED)),
    }
}

/// What is tried, before it is known as which handler.
enum Found {
    Letter(Box<DeadLetter>),
    /// A file's JSON object.
    Text(Vec<u8>),
}

impl Found {
    fn of(args: &Try, global: &Global) -> Result<Self, CliError> {
        let path = Path::new(&args.what);
        // An id is hex digits: what looks like a path is one, so that a file that is missing is not taken for an id.
        if !path.exists() && !args.what.contains(['/', '.']) {
            return Ok(Self::Letter(Box::new(dead::read(&dead::letter(&args.what, &args.server, global)?)?)));
        }
        let wrong = |why: &dyn std::fmt::Display| CliError::Wrong(format!("`{}` can't be read: {why}", path.display()));
        let text = read_bounded(path, STRUCTURED_BODY_MAX).map_err(|error| wrong(&error))?;
        if text.len() as u64 > STRUCTURED_BODY_MAX {
            return Err(wrong(&format!("it is larger than {STRUCTURED_BODY_MAX} bytes")));
        }
        Ok(match json::read(&text) {
            Ok(letter) => Self::Letter(Box::new(letter)),
            Err(_) => Self::Text(text),
        })
    }

    fn letter(&self) -> Option<&DeadLetter> {
        match self {
            Self::Letter(letter) => Some(letter),
            Self::Text(_) => None,
        }
    }

    /// The configuration; none where none is there and none is needed.
    fn config(&self, args: &Try, global: &Global) -> Result<Option<Config>, CliError> {
        let needs_none = self.letter().is_none() && args.component.is_some() && args.handler.is_none();
        // A file that was named has to be there.
        let is_named = global.config != Path::new(Global::CONFIG);
        if needs_none && !is_named && !global.config.exists() { Ok(None) } else { global.load().map(Some) }
    }

    fn trial(self, args: &Try, config: Option<&Config>, general: &Config) -> Result<Trial, CliError> {
        let letter = self.letter().map(|letter| letter.handler.as_str());
        let picked = match config {
            None => None,
            Some(config) => {
                let picked = pick(&config.handlers, args.handler.as_deref(), letter, args.component.is_some());
                picked.map_err(|why| CliError::Wrong(format!("{why} in `{}`", config.file.display())))?
            }
        };
        let config = config.unwrap_or(general);
        let general = general.handlers.get_key_value(NOBODY).map(|(name, handler)| (name.as_str(), handler));
        let Some((handler, chosen)) = picked.or(general) else {
            return Err(CliError::Failed("there is no handler in general, which is a bug of Weir".to_owned()));
        };
        if picked.is_none() {
            note("tried with default limits and no grants (--handler NAME takes those of a handler)");
        }
        let (handler, mut chosen) = (handler.to_owned(), chosen.clone());
        if let Some(component) = &args.component {
            // The only one that was not asked for by its name.
            if args.handler.is_none() && letter.is_none() && picked.is_some() {
                note(&format!("tried as handler `{handler}`, the only one of `{}`", config.file.display()));
            }
            chosen.component.clone_from(component);
        }
        let now = clock::now();
        let (event, queue, first_seen) = match self {
            Self::Letter(letter) => (letter.event, letter.queue, letter.first_at),
            Self::Text(text) => {
                let queue = chosen.queues.first().map_or(NOBODY, String::as_str).to_owned();
                let source = config.queues.get(&queue);
                let kind = source.map_or(super::publish::TYPE, |queue| queue.kind.as_str());
                let map = source.and_then(|queue| queue.map.as_deref());
                let intake = Intake { queue: &queue, kind, map, max_event: config.server.max_event, now };
                let event = lines::read(text.trim_ascii(), &intake);
                let event = event.map_err(|why| CliError::Wrong(format!("`{}` is no event: {why}", args.what)))?;
                (Arc::new(event), queue, now)
            }
        };
        let (size, bound) = (event.size() as u64, config.server.max_event);
        if size > bound {
            return Err(CliError::Wrong(format!("`{}` is {size} bytes, more than `max-event` allows ({bound})", args.what)));
        }
        say_filter(&chosen, &event);
        Ok(Trial { event, queue, first_seen, handler, config: chosen })
    }
}

/// The filter is not asked: who tries an event wants it run. That it would never have come is said.
fn say_filter(handler: &HandlerConfig, event: &Event) {
    if let Some(filter) = &handler.filter
        && !matches!(filter.matches(event), Ok(true))
    {
        note(&format!("the handler's filter does not let this event through: {}", filter.text()));
    }
}

/// The handler that something is tried as; none: one in general.
fn pick<'c>(
    handlers: &'c BTreeMap<String, HandlerConfig>,
    wanted: Option<&str>,
    letter: Option<&str>,
    has_component: bool,
) -> Result<Option<(&'c str, &'c HandlerConfig)>, String> {
    let known = || {
        let known: Vec<String> = handlers.keys().map(|name| format!("`{name}`")).collect();
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    };
    if let Some(name) = wanted.or(letter) {
        let other = if wanted.is_none() { "; `--handler NAME` names another" } else { "" };
        let found = handlers.get_key_value(name);
        let found = found.ok_or_else(|| format!("handler `{name}` is not defined (known: {}{other})", known()))?;
        return Ok(Some((found.0, found.1)));
    }
    let mut all = handlers.iter();
    match (all.next(), all.next()) {
        (Some((name, handler)), None) => Ok(Some((name, handler))),
        _ if has_component => Ok(None),
        _ => Err(format!("there is no telling which handler is meant (name it with `--handler`; known: {})", known())),
    }
}

/// A configuration of one handler with every default, and of nothing else.
pub(super) fn defaults(overrides: &[String]) -> Result<Config, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let surroundings = Surroundings { env: &|_| None, folder: std::env::current_dir()?, cores };
    config::read_text(DEFAULTS, Path::new(Global::CONFIG), overrides, &surroundings).map_err(CliError::Config)
}

fn effects(args: &Try, config: &Config, trial: &Trial) -> Result<Effects, CliError> {
    let grants = &trial.config.grants;
    let in_store = grants.keyvalue.iter().any(|grant| grant.url.is_none());
    if !args.live {
        return captured(config, in_store);
    }
    // Without these there is nothing to look up; what is published leaves when the handler is done.
    if grants.email.is_none() && grants.keyvalue.is_empty() {
        return Ok(Effects::Live(None));
    }
    match direct::made_store(config) {
        Ok(store) => Ok(Effects::Live(Some(store))),
        Err(CliError::Failed(why)) => {
            let text = format!("`--live` needs the store, which knows the mails sent before and has the buckets: {why}");
            Err(CliError::Failed(text))
        }
        Err(error) => Err(error),
    }
}

/// What is in the store's buckets is read where that can be done, for it belongs to the server that runs, if one does.
fn captured(config: &Config, in_store: bool) -> Result<Effects, CliError> {
    if !in_store {
        return Ok(Effects::Captured(None));
    }
    match direct::store(config) {
        Ok(store) => Ok(Effects::Captured(store)),
        Err(CliError::Failed(why)) => {
            note(&format!("buckets of the store begin empty here: {why}"));
            Ok(Effects::Captured(None))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_as_which_handler() {
        let handler = defaults(&[]).unwrap().handlers.remove(NOBODY).unwrap();
        let named = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), handler.clone())).collect::<BTreeMap<_, _>>();
        let (none, one, two) = (named(&[]), named(&["a"]), named(&["a", "b"]));
        for (handlers, wanted, letter, has_component, expected) in [
            (&two, Some("b"), Some("a"), false, Ok(Some("b"))),
            (&two, None, Some("a"), true, Ok(Some("a"))),
            (&one, None, None, false, Ok(Some("a"))),
            (&one, None, None, true, Ok(Some("a"))),
            (&two, None, None, true, Ok(None)),
            (&none, None, None, true, Ok(None)),
            (&two, None, None, false, Err("known: `a`, `b`")),
            (&none, None, None, false, Err("known: none")),
            (&two, Some("c"), Some("a"), true, Err("handler `c` is not defined (known: `a`, `b`)")),
            (&two, None, Some("old"), true, Err("known: `a`, `b`; `--handler NAME` names another")),
        ] {
            let picked = pick(handlers, wanted, letter, has_component).map(|picked| picked.map(|(name, _)| name));
            match (picked, expected) {
                (Ok(picked), Ok(expected)) => assert_eq!(picked, expected, "{wanted:?} {letter:?} {has_component}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (picked, _) => panic!("{picked:?} for {wanted:?} {letter:?} {has_component}"),
            }
        }
    }
}

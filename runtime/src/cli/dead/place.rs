//! Where dead letters are asked for: a running server, else the store and the queues that keep their own, opened by this command.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::thread;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::{RawValue, to_raw_value};
use tokio::runtime::Runtime;

use super::Asked;
use crate::cli::client::{Client, Found, Reply, ServerArgs};
use crate::cli::direct::{self, Direct};
use crate::cli::output::{CliError, Global, note};
use crate::clock;
use crate::config::Config;
use crate::dead::replay::{self, Readers, ReplayError};
use crate::dead::{DeadFilter, DeadLetter, DeadLetters, DeadPage, DeadPlaces};
use crate::queue::BoxFuture;
use crate::queue::url::QueueUrl;
use crate::store::StoreError;

/// Drops that are asked for at once: they share commits, and a server has connections for others too.
const AT_ONCE: usize = 16;

/// Where dead letters are asked for.
pub(super) enum Place {
    Server(Client),
    Direct(Box<Opened>),
}

/// Store and queues of a configuration, opened here.
pub(super) struct Opened {
    runtime: Runtime,
    letters: DeadPlaces,
    config: Config,
    readers: Readers,
    // Opened when the first letter of a queue is replayed; one command is one thread.
    queues: RefCell<BTreeMap<String, Direct>>,
}

/// One page of a list.
pub(super) struct Page {
    /// As they were written.
    pub(super) letters: Vec<Box<RawValue>>,
    /// Where the list goes on.
    pub(super) next: Option<String>,
}

/// A letter that was not replayed or dropped.
pub(super) enum Failed {
    /// Something is wrong with this one: others may do.
    This(CliError),
    /// Others would fail too.
    Every(CliError),
}

impl Place {
    /// A server that runs, else the configuration's store and queues.
    ///
    /// # Errors
    /// When neither can be asked.
    pub(super) fn find(server: &ServerArgs, global: &Global) -> Result<Self, CliError> {
        match server.find(global)? {
            Found::Server(client) => Ok(Self::Server(client)),
            Found::Nobody(why) => {
                let config = global.load()?;
                note(&format!("{why}; opening the store itself"));
                Ok(Self::Direct(Box::new(Opened::new(config)?)))
            }
        }
    }

    /// One page, newest first.
    pub(super) fn list(&self, asked: &Asked) -> Result<Page, CliError> {
        match self {
            Self::Server(client) => {
                let reply = client.get(&format!("/api/dead{}", asked.query()))?;
                if let Some(count) = &reply.missing {
                    note(&format!(
                        "the list lacks dead letters: {count} of their places can't be asked (the server's log says why)"
                    ));
                }
                Ok(Page { letters: reply.value()?, next: reply.more })
            }
            Self::Direct(opened) => {
                let page = opened.runtime.block_on(opened.letters.list(asked.filter(clock::now()))).map_err(stopped)?;
                for place in &page.missing {
                    note(&format!("the list lacks dead letters: {place}"));
                }
                for one in &page.unreadable {
                    note(&format!("dead letter `{}` of queue `{}` can't be read ({})", one.id, one.queue, one.reason));
                }
                let letters = page.letters.iter().map(text).collect::<Result<_, _>>()?;
                Ok(Page { letters, next: page.next.map(|next| next.to_string()) })
            }
        }
    }

    /// One letter.
    pub(super) fn get(&self, id: &str) -> Result<Box<RawValue>, CliError> {
        match self {
            Self::Server(client) => {
                let reply = client.get(&path(id, ""))?;
                if reply.status == 404 { Err(unknown(id)) } else { reply.text() }
            }
            Self::Direct(opened) => {
                let found = opened.runtime.block_on(opened.letters.get(id)).map_err(stopped)?;
                text(&found.ok_or_else(|| unknown(id))?)
            }
        }
    }

    /// Replays one letter, to `to` or its own handler.
    pub(super) fn replay(&self, id: &str, to: Option<&str>) -> Result<(), Failed> {
        match self {
            Self::Server(client) => {
                let to = to.map(|to| format!("?handler={}", utf8_percent_encode(to, NON_ALPHANUMERIC))).unwrap_or_default();
                answered(id, client.post(&path(id, &format!("/replay{to}")), "", &[]))
            }
            Self::Direct(opened) => opened.replay(id, to),
        }
    }

    /// Drops several letters at once; one answer for each.
    pub(super) fn remove(&self, ids: &[String]) -> Vec<Result<(), Failed>> {
        match self {
            Self::Server(client) => {
                let remove =
                    |ids: &[String]| -> Vec<_> { ids.iter().map(|id| answered(id, client.delete(&path(id, "")))).collect() };
                thread::scope(|scope| {
                    let share = ids.len().div_ceil(AT_ONCE).max(1);
                    let threads: Vec<_> = ids.chunks(share).map(|ids| scope.spawn(move || remove(ids))).collect();
                    let ended = threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default());
                    ended.collect()
                })
            }
            Self::Direct(opened) => opened.runtime.block_on(async {
                let removed = ids.iter().map(|id| async {
                    match opened.letters.remove(id).await {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(Failed::This(unknown(id))),
                        Err(error) => Err(Failed::Every(stopped(error))),
                    }
                });
                futures_util::future::join_all(removed).await
            }),
        }
    }
}

impl Opened {
    fn new(config: Config) -> Result<Self, CliError> {
        let mut queues = BTreeMap::new();
        let store = direct::store(&config)?;
        for (name, queue) in &config.queues {
            // These two keep their dead letters in the store.
            if !matches!(queue.url, QueueUrl::Memory | QueueUrl::Disk(_)) {
                queues.insert(name.clone(), Direct::named(&config, name, queue, store.clone())?);
            }
        }
        let own = queues.iter().map(|(name, direct): (&String, &Direct)| (name.as_str(), direct.queue()));
        let store: Arc<dyn DeadLetters> = match store {
            Some(store) => store,
            None => Arc::new(NoStore),
        };
        let letters = DeadPlaces::of_queues(store, own);
        let readers = Readers::of(&config);
        Ok(Self { runtime: direct::runtime()?, letters, config, readers, queues: RefCell::new(queues) })
    }

    fn replay(&self, id: &str, to: Option<&str>) -> Result<(), Failed> {
        let found = self.runtime.block_on(self.letters.get(id)).map_err(|error| Failed::Every(stopped(error)))?;
        let letter = found.ok_or_else(|| Failed::This(unknown(id)))?;
        let handler = self.readers.address(&letter, to).map_err(failure)?;
        let Some(config) = self.config.queues.get(&letter.queue) else {
            return Err(failure(ReplayError::Queue { id: id.to_owned(), name: letter.queue }));
        };
        let mut queues = self.queues.borrow_mut();
        let direct = match queues.entry(letter.queue.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                vacant.insert(Direct::named(&self.config, &letter.queue, config, None).map_err(Failed::Every)?)
            }
        };
        // A handler that no server has run yet has no subscription: what is published before it has one, it would never get.
        let subscription = format!("{}-{handler}", self.config.server.group);
        let subscribed = direct.ask(|queue| queue.subscribe(&subscription, config.start));
        subscribed.map_err(|error| Failed::Every(direct::failure(&letter.queue, &error)))?;
        let replayed = self.runtime.block_on(replay::replay(&self.letters, direct.queue(), &letter, handler));
        replayed.map(drop).map_err(failure)
    }
}

/// The place of a store that nothing was written to yet: asking does not make it.
struct NoStore;

impl DeadLetters for NoStore {
    fn put<'a>(&'a self, _: &'a [&'a DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable("no store was made yet".to_owned())) })
    }

    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<DeadLetter>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn list(&self, _: DeadFilter) -> BoxFuture<'_, Result<DeadPage, StoreError>> {
        Box::pin(async { Ok(DeadPage::default()) })
    }

    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }
}

/// What a server answered about one letter.
fn answered(id: &str, reply: Result<Reply, CliError>) -> Result<(), Failed> {
    let reply = reply.map_err(Failed::Every)?;
    match reply.status {
        200..300 => Ok(()),
        404 => Err(Failed::This(unknown(id))),
        400 | 409 | 413 | 500 => Err(Failed::This(reply.failure())),
        _ => Err(Failed::Every(reply.failure())),
    }
}

fn failure(error: ReplayError) -> Failed {
    let text = error.to_string();
    match error {
        ReplayError::Unknown(_) | ReplayError::Left { .. } => Failed::This(CliError::Failed(text)),
        ReplayError::Handler(_) | ReplayError::Queue { .. } | ReplayError::Event { .. } => Failed::This(CliError::Wrong(text)),
        ReplayError::Publish { .. } | ReplayError::Unread(_) => Failed::Every(CliError::Failed(text)),
    }
}

fn path(id: &str, rest: &str) -> String {
    format!("/api/dead/{}{rest}", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

fn unknown(id: &str) -> CliError {
    CliError::Failed(ReplayError::Unknown(id.to_owned()).to_string())
}

fn stopped(error: StoreError) -> CliError {
    CliError::Failed(error.to_string())
}

/// The text of a dead letter, which is what is handed on.
fn text(letter: &DeadLetter) -> Result<Box<RawValue>, CliError> {
    to_raw_value(letter).map_err(|error| CliError::Failed(format!("dead letter `{}` can't be written: {error}", letter.id)))
}

//! A handler that is loaded: its configuration, the version that runs now, and whether it can run at all.

pub mod version;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch::{Receiver, Sender};

pub use self::version::{LoadProblem, Loader, Version};
use crate::config::HandlerConfig;

/// Whether a handler's events are pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// They are.
    Running,
    /// Something that it needs can't be had now: its dead letters can't be kept, for example.
    Held {
        /// Why.
        error: String,
    },
    /// No instance of it can be made; until its file changes.
    Failed {
        /// Why.
        error: String,
    },
}

/// Who paused a handler that could run (delivery.md §11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PausedBy {
    /// A person, by `weir handlers pause`: kept in the store.
    Operator,
    /// `paused = true` in weir.toml.
    Config,
}

impl PausedBy {
    /// As `paused_by` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Config => "config",
        }
    }
}

/// How attempts to load a new version ended, counted since the start.
#[derive(Debug, Default)]
pub struct Reloads {
    /// A new version took over.
    pub swapped: AtomicU64,
    /// A new file could not be used; the old version stayed.
    pub refused: AtomicU64,
}

/// A handler.
pub struct Handler {
    /// Its name in weir.toml.
    pub name: Arc<str>,
    /// Its section in weir.toml.
    pub config: HandlerConfig,
    /// How reloads ended.
    pub reloads: Reloads,
    current: ArcSwap<Version>,
    state: Sender<State>,
    // What is held up, and why: its subscriptions are held one by one. Held for a change of the map, and while the state follows it.
    holds: Mutex<BTreeMap<String, String>>,
    /// Beside its state: a pause by hand outlives a failure, and the other way round.
    paused: Sender<Option<PausedBy>>,
    // Read by status requests, written by reloads; held for a copy.
    history: Mutex<History>,
}

/// What a status shows beside the version that runs.
#[derive(Debug, Default)]
struct History {
    previous: Option<String>,
    refused: Option<String>,
}

impl Handler {
    /// A handler that runs `version`.
    #[must_use]
    pub fn new(name: &str, config: HandlerConfig, version: Version) -> Arc<Self> {
        let paused = Sender::new(config.paused.then_some(PausedBy::Config));
        Arc::new(Self {
            name: Arc::from(name),
            config,
            paused,
            reloads: Reloads::default(),
            current: ArcSwap::from_pointee(version),
            state: Sender::new(State::Running),
            holds: Mutex::default(),
            history: Mutex::default(),
        })
    }

    /// The version for an event that starts now. Events that run finish on the version they began with.
    #[must_use]
    pub fn current(&self) -> Arc<Version> {
        self.current.load_full()
    }

    /// Swaps the version for new events, and lets a failed handler run again.
    pub fn swap(&self, version: Version) {
        let previous = self.current.swap(Arc::new(version));
        *self.history() = History { previous: Some(previous.program.digest.to_string()), refused: None };
        self.reloads.swapped.fetch_add(1, Ordering::Relaxed);
        self.state.send_replace(held(&self.holds()));
    }

    /// No instance of `version` could be made: if it is the current one, its events are not pulled until its file changes.
    pub fn fail(&self, version: &Arc<Version>, error: &str) {
        if !Arc::ptr_eq(&self.current(), version) {
            return; // A new version took over while this one still ran.
        }
        let failed = State::Failed { error: error.to_owned() };
        if self.state.send_replace(failed.clone()) != failed {
            tracing::error!(handler = %self.name, version = %self.current().short(), %error, "handler can't run: paused until its file changes");
        }
    }

    /// A new file could not be used; the old version goes on.
    pub fn refuse(&self, why: &str) {
        self.reloads.refused.fetch_add(1, Ordering::Relaxed);
        self.history().refused = Some(why.to_owned());
        tracing::warn!(handler = %self.name, version = self.current().short(), error = why, "new version refused: the old one goes on");
    }

    /// The file is again the one that runs: nothing is wrong with it.
    pub fn unrefuse(&self) {
        self.history().refused = None;
    }

    /// The digest of what ran before.
    #[must_use]
    pub fn previous(&self) -> Option<String> {
        self.history().previous.clone()
    }

    /// Why the newest file is not used.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.history().refused.clone()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that one of its subscriptions needs can't be had now: nothing is pulled until [`Handler::release`] of the same one.
    pub fn hold(&self, subscription: &str, error: &str) {
        let mut holds = self.holds();
        if holds.insert(subscription.to_owned(), error.to_owned()).is_none() {
            tracing::error!(handler = %self.name, subscription, %error, "handler waits: nothing is pulled for it");
        }
        self.follow(&holds);
    }

    /// What [`Handler::hold`] waited for is there again.
    pub fn release(&self, subscription: &str) {
        let mut holds = self.holds();
        if holds.remove(subscription).is_some() {
            self.follow(&holds);
            if holds.is_empty() {
                tracing::info!(handler = %self.name, "handler goes on");
            }
        }
    }

    /// The state follows what is held up; a failure stands above.
    fn follow(&self, holds: &BTreeMap<String, String>) {
        self.state.send_if_modified(|state| {
            let next = held(holds);
            let changes = !matches!(state, State::Failed { .. }) && *state != next;
            if changes {
                *state = next;
            }
            changes
        });
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pauses it, or ends that; what weir.toml says stands above.
    pub fn pause(&self, by: Option<PausedBy>) {
        let by = if self.config.paused { Some(PausedBy::Config) } else { by };
        let changes = |now: &mut Option<PausedBy>| std::mem::replace(now, by) != by;
        if self.paused.send_if_modified(changes) {
            match by {
                Some(by) => tracing::info!(handler = %self.name, by = by.name(), "handler paused"),
                None => tracing::info!(handler = %self.name, "handler resumed"),
            }
        }
    }

    /// Who has paused it now, and changes of that: while somebody has, nothing is pulled.
    #[must_use]
    pub fn paused(&self) -> Receiver<Option<PausedBy>> {
        self.paused.subscribe()
    }

    /// The state now, and its changes.
    #[must_use]
    pub fn state(&self) -> Receiver<State> {
        self.state.subscribe()
    }
}

/// The state of a handler that could run, by what is held up.
fn held(holds: &BTreeMap<String, String>) -> State {
    holds.values().next().map_or(State::Running, |error| State::Held { error: error.clone() })
}

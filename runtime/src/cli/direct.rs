//! Queues and the store without a server: opened by the command itself, for as long as it runs.

use std::sync::Arc;

use tokio::runtime::Runtime;

use super::output::CliError;
use crate::clock;
use crate::config;
use crate::config::{Config, QueueConfig};
use crate::dead::DeadBounds;
use crate::event::Event;
use crate::queue::url::QueueUrl;
use crate::queue::{self, Opening, Publish, Queue, QueueError};
use crate::store::{Settings, Store};

/// The bound on a queue that is opened by its URL alone: the default of `max-size` (surface.md §1).
pub const MAX_SIZE: u64 = 10 << 30;

/// The name of a command among processes that share a store: it claims nothing there.
const COMMAND: &str = "command";

/// A queue that this process has opened.
pub struct Direct {
    queue: Arc<dyn Queue>,
    runtime: Runtime,
}

impl Direct {
    /// Opens a queue.
    ///
    /// # Errors
    /// When another process owns it (its error names that process), or it can't be opened.
    pub fn open(name: &str, url: &QueueUrl, max_size: u64) -> Result<Self, CliError> {
        Self::open_with(url, opening(name, max_size))
    }

    /// Opens a queue of the configuration as its server would, with this store beside it.
    ///
    /// # Errors
    /// As [`Direct::open`].
    pub fn named(config: &Config, name: &str, queue: &QueueConfig, store: Option<Arc<Store>>) -> Result<Self, CliError> {
        Self::open_with(&queue.url, Opening { store, ..named(config, name, queue) })
    }

    fn open_with(url: &QueueUrl, opening: Opening) -> Result<Self, CliError> {
        let runtime = runtime()?;
        let queue = runtime.block_on(opened(url, opening))?;
        Ok(Self { queue, runtime })
    }

    /// A queue that is open already.
    #[cfg(test)]
    pub(crate) fn over(queue: Arc<dyn Queue>) -> Self {
        Self { queue, runtime: runtime().unwrap() }
    }

    /// Publishes a batch, all or none.
    ///
    /// # Errors
    /// The queue's own.
    pub fn publish(&self, events: &[Arc<Event>], delay: Option<std::time::Duration>) -> Result<(), QueueError> {
        let due = delay.map(|delay| clock::now().after(delay));
        let batch = events.iter().map(|event| Publish { event: event.clone(), due }).collect();
        self.runtime.block_on(self.queue.publish(batch))
    }

    /// Asks it something.
    pub fn ask<'q, T>(&'q self, question: impl FnOnce(&'q dyn Queue) -> crate::queue::BoxFuture<'q, T>) -> T {
        self.runtime.block_on(question(&*self.queue))
    }

    /// The queue itself.
    #[must_use]
    pub fn queue(&self) -> &dyn Queue {
        &*self.queue
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.runtime.block_on(self.queue.close());
    }
}

/// What a command opens a queue with.
#[must_use]
pub fn opening(name: &str, max_size: u64) -> Opening {
    Opening {
        dead: DeadBounds::default(),
        store: None,
        name: name.to_owned(),
        kind: config::KIND.to_owned(),
        key: None,
        map: None,
        max_size_bytes: max_size,
        // Of no consequence to those that publish and ask; it tells them apart on a broker.
        process: format!("command-{}", std::process::id()),
        // It reads for no handler.
        group: COMMAND.to_owned(),
    }
}

/// The same for a queue of the configuration: what other producers put there is read as its server would, and what is held for
/// its handlers is found.
#[must_use]
pub fn named(config: &Config, name: &str, queue: &QueueConfig) -> Opening {
    let (kind, key, map) = (queue.kind.clone(), queue.key.clone(), queue.map.clone());
    Opening { kind, key, map, group: config.server.group.clone(), ..opening(name, queue.max_size) }
}

/// Opens a queue.
///
/// # Errors
/// When another process owns it (its error names that process), or it can't be opened.
pub async fn opened(url: &QueueUrl, opening: Opening) -> Result<Arc<dyn Queue>, CliError> {
    let name = opening.name.clone();
    if *url == QueueUrl::Memory {
        let text = format!("queue `{name}` is `memory:`, which only its server can reach (start `weir serve`)");
        return Err(CliError::Failed(text));
    }
    queue::open(url, opening).await.map_err(|error| failure(&name, &error))
}

/// How an error of a queue ends a command.
#[must_use]
pub fn failure(name: &str, error: &QueueError) -> CliError {
    match error {
        QueueError::Invalid(_) | QueueError::Unsupported(_) => CliError::Wrong(format!("queue `{name}`: {error}")),
        _ => CliError::Failed(format!("queue `{name}`: {error}")),
    }
}

/// A queue of the configuration, by name.
///
/// # Errors
/// Names the known ones, the nearest first.
pub fn queue_of<'c>(config: &'c Config, name: &str) -> Result<&'c QueueConfig, CliError> {
    config.queues.get(name).ok_or_else(|| {
        let mut known: Vec<&str> = config.queues.keys().map(String::as_str).collect();
        known.sort_by_key(|other| strsim::damerau_levenshtein(name, other));
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        CliError::Wrong(format!("queue `{name}` is not defined in `{}` (known: {known})", config.file.display()))
    })
}

/// The store, when there is one: asking makes no folder.
///
/// # Errors
/// When another process has it open (its error names that process), or it can't be opened.
pub fn store(config: &Config) -> Result<Option<Arc<Store>>, CliError> {
    if !config.server.store.is_shared() && !config.server.data.exists() {
        return Ok(None);
    }
    made_store(config).map(Some)
}

/// The store, if one of these queues is on a broker that can't hold all by itself (delivery.md §6).
///
/// # Errors
/// As [`store`].
pub fn store_beside<'u>(config: &Config, urls: impl IntoIterator<Item = &'u QueueUrl>) -> Result<Option<Arc<Store>>, CliError> {
    if urls.into_iter().any(needs_store) { store(config) } else { Ok(None) }
}

/// Whether the broker of this queue leaves to the store what it can't hold.
#[must_use]
pub fn needs_store(url: &QueueUrl) -> bool {
    !["disk", "memory", "redis"].contains(&url.adapter())
}

/// The store, made if it is not there.
///
/// # Errors
/// When another process has it open (its error names that process), or it can't be made or opened.
pub fn made_store(config: &Config) -> Result<Arc<Store>, CliError> {
    Store::open_with(&Settings::of(config, COMMAND)).map_err(|error| CliError::Failed(error.to_string()))
}

/// Threads for what a command runs itself.
///
/// # Errors
/// When none can be started.
pub fn runtime() -> Result<Runtime, CliError> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    built.map_err(|error| CliError::Failed(format!("threads can't be started: {error}")))
}

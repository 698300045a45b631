//! Where a store is and what it keeps: what a configuration says of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::StoreUrl;
use crate::config::Config;
use crate::dead::DeadBounds;

/// Where a store is and what it keeps.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where it is: `[server] store`.
    pub url: StoreUrl,
    /// The installation that it is of, where several share one server: `[server] group`.
    pub group: String,
    /// This process among those that share it: `[server] name`.
    pub process: String,
    /// The folder of the embedded store: `[server] data`.
    pub data: PathBuf,
    /// The bounds on dead letters of each queue; a queue that is not here has the default ones.
    pub dead: BTreeMap<String, DeadBounds>,
}

impl Settings {
    /// The store that a configuration names, for the process of this name.
    #[must_use]
    pub fn of(config: &Config, process: &str) -> Self {
        let dead = config.queues.iter().map(|(name, queue)| (name.clone(), queue.dead_bounds)).collect();
        let server = &config.server;
        Self {
            url: server.store.clone(),
            group: server.group.clone(),
            process: process.to_owned(),
            data: server.data.clone(),
            dead,
        }
    }
}

//! The sandbox: gives one event, or a batch, to a fresh instance of a program under every limit, and says what it came to.
//!
//! The only module that names wasmtime. It never decides what happens to the event: that is `verdict.rs`.

mod adapt;
mod cache;
mod classify;
pub mod engine;
mod exports;
pub mod floor;
mod host;
pub mod imports;
pub mod inspect;
mod limits;
mod load;
mod log;
mod programs;
pub mod redact;
mod run;
mod state;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use self::cache::CodeCache;
use self::engine::Engines;
pub(crate) use self::load::read_bounded;
pub use self::load::{LoadError, probe};
pub use self::log::level;
use self::programs::Entry;
pub use self::programs::batch::{Batch, run as run_batch};
pub use self::run::{Job, Report, run, run_at};
use crate::config::{Ceilings, Limits, PublishGrant};
use crate::keyvalue::Granted;
use crate::mail::Mailer;
use crate::outgoing::Client;

/// Bytes beside the event itself that one host call may hand over: attribute names, list headers (sandbox.md §3).
const HOSTCALL_EXTRA: u64 = 64 * 1024;

/// Engines, pool, code cache: one per process.
pub struct Sandbox {
    engines: Engines,
    cache: Option<CodeCache>,
    ceilings: Ceilings,
    shared: Arc<Semaphore>,
}

impl Sandbox {
    /// A sandbox for at most `instances` instances at once; compiled code is kept under `data/code` when that folder can be trusted.
    #[must_use]
    pub fn new(ceilings: &Ceilings, instances: u32, data: Option<&Path>) -> Arc<Self> {
        let engines = Engines::new(ceilings, instances);
        let shared = Arc::new(Semaphore::new(engines.instances() as usize));
        let cache = data.and_then(|data| CodeCache::open(&data.join("code")));
        Arc::new(Self { engines, cache, ceilings: *ceilings, shared })
    }
}

impl Sandbox {
    /// How many instances there can be at once.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.engines.instances()
    }
}

/// A component or a core module, compiled, linked and looked through: what runs, without any handler's limits.
#[derive(Clone)]
pub struct Program {
    /// `sha256:…` of its bytes.
    pub digest: Arc<str>,
    entry: Entry,
}

/// What a handler's runs have in common: one per version of a handler.
pub struct Setup {
    /// The handler's name.
    pub handler: Arc<str>,
    /// Its limits.
    pub limits: Limits,
    /// What it reads through wasi:config: texts of files already read.
    pub config: Vec<(String, String)>,
    /// Its mailer, when `email` is granted.
    pub mailer: Option<Arc<Mailer>>,
    /// Where it may publish, when `publish` is granted.
    pub publish: Option<PublishGrant>,
    /// Its HTTP client, when `http` is granted.
    pub http: Option<Arc<Client>>,
    /// What must not be shown of what it writes and answers.
    pub redactor: redact::Redactor,
    /// Its buckets, when `keyvalue` is granted.
    pub buckets: Option<Arc<Granted>>,
    /// Largest event, in bytes: bounds what one host call may hand over.
    pub max_event: u64,
    /// Its share of the instances.
    pub permits: Permits,
}

impl Setup {
    fn hostcall_bytes(&self) -> usize {
        usize::try_from(self.max_event.saturating_mul(2).saturating_add(HOSTCALL_EXTRA)).unwrap_or(usize::MAX)
    }
}

/// One instance of a handler's own, and the rest shared by all: sleepers of one handler never hold up another.
pub struct Permits {
    own: Semaphore,
    shared: Arc<Semaphore>,
    /// What was taken out of the shared ones: none when all were in use just then.
    taken: usize,
}

impl Permits {
    /// For one handler; takes its own instance out of the shared ones while it lives.
    #[must_use]
    pub fn new(sandbox: &Sandbox) -> Self {
        let taken = sandbox.shared.forget_permits(1);
        Self { own: Semaphore::new(taken), shared: Arc::clone(&sandbox.shared), taken }
    }

    async fn acquire(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.shared.try_acquire().or_else(|_| self.own.try_acquire()) {
            return Some(permit);
        }
        // Neither is ever closed.
        tokio::select! {
            permit = self.own.acquire() => permit.ok(),
            permit = self.shared.acquire() => permit.ok(),
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.shared.add_permits(self.taken);
    }
}

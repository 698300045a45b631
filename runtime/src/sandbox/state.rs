//! What a store holds while one event runs: the views that host functions borrow, and what they noted.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::Setup;
use super::host::http::Denied;
use super::host::keyvalue::Asked;
use super::limits::Limiter;
use super::log::{GuestLog, Stream};
use crate::event::Event;
use crate::mail::MailRun;
use crate::outbox::Outbox;
use crate::outcome::Limit;

/// Most random bytes that one call gives (sandbox.md §3).
const RANDOM_MAX: u64 = 64 * 1024;

/// Most bytes of one `wasi:http` fields resource as kept in memory: the 8 KiB that servers take, twice. A guest may hold as many of them as
/// it has handles.
const HTTP_FIELDS_MAX: usize = 16 * 1024;

/// State of one store.
pub(crate) struct State {
    pub(crate) setup: Arc<Setup>,
    /// None while a version is probed: every effect is refused then.
    pub(crate) event: Option<Arc<Event>>,
    pub(crate) deadline: Instant,
    pub(crate) limiter: Limiter,
    pub(crate) log: GuestLog,
    /// What was mailed in this run; made with the first mail.
    pub(crate) mail: Option<MailRun>,
    /// What was published in this run; nothing of it has left.
    pub(crate) outbox: Outbox,
    /// What was asked of buckets.
    pub(crate) buckets: Asked,
    /// Requests and mails begun.
    pub(crate) requests: u32,
    /// The first outside failure that a host call answered with.
    pub(crate) outside: Option<String>,
    /// The counted limit that was passed.
    pub(crate) over: Option<Limit>,
    /// Imports that were denied and said so in the log: each once, however often it is called.
    pub(crate) denied: Vec<&'static str>,
    table: ResourceTable,
    // Made on first use: many handlers never touch WASI (engine-floor.md: 0.3 µs an event).
    wasi: Option<WasiCtx>,
    http: Option<(WasiHttpCtx, Denied)>,
}

impl State {
    pub(crate) fn new(setup: &Arc<Setup>, event: Option<Arc<Event>>, deadline: Instant) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(setup.limits.handles as usize);
        Self {
            limiter: Limiter::new(&setup.limits),
            log: GuestLog::new(setup.limits.output),
            setup: Arc::clone(setup),
            event,
            deadline,
            mail: None,
            outbox: Outbox::default(),
            buckets: Asked::default(),
            requests: 0,
            outside: None,
            over: None,
            denied: Vec::new(),
            table,
            wasi: None,
            http: None,
        }
    }

    /// What the guest holds of the host's.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

/// No folder, no environment, no arguments, no sockets: clocks, random and the log.
fn wasi(log: &GuestLog) -> WasiCtx {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(Stream::new(log, false))
        .stderr(Stream::new(log, true))
        .max_random_size(RANDOM_MAX)
        // The defaults, written down: what asks for any of it is denied before it comes here (host/sockets.rs).
        .allow_ip_name_lookup(false)
        .allow_tcp(false)
        .allow_udp(false);
    wasi.build()
}

/// Headers of a size that servers take; everything that is kept for a request counts (sandbox.md §3, host memory).
fn http() -> WasiHttpCtx {
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(HTTP_FIELDS_MAX);
    http
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: self.wasi.get_or_insert_with(|| wasi(&self.log)), table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let (ctx, hooks) = self.http.get_or_insert_with(|| (http(), Denied::new(&self.log)));
        WasiHttpCtxView { hooks, table: &mut self.table, ctx }
    }
}

//! What a store holds while one call runs: the views that host functions borrow, and what they noted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::Setup;
use super::host::http::{Noted, Requests};
use super::host::keyvalue::Asked;
use super::limits::Limiter;
use super::log::{GuestLog, Stream, Way};
use crate::clock::{self, Timestamp};
use crate::config::Limits;
use crate::event::Event;
use crate::mail::MailRun;
use crate::outbox::Outbox;
use crate::outcome::Limit;

/// Most random bytes that one call gives (sandbox.md §3).
const RANDOM_MAX: u64 = 64 * 1024;

/// Most bytes of one `wasi:http` fields resource as kept in memory: the 8 KiB that servers take, twice. A guest may hold as many of them as
/// it has handles.
const HTTP_FIELDS_MAX: usize = 16 * 1024;

/// What the guest has in hand.
pub(crate) enum Hand {
    /// Nothing, while a version is probed: every effect is refused then.
    Nothing,
    /// One event.
    One(Held),
    /// The events of a batch, in the order of their indexes; also when it is one.
    Batch(Vec<Held>),
}

/// An event in hand.
pub(crate) struct Held {
    pub(crate) event: Arc<Event>,
    /// What was mailed for it in this run; made with the first mail.
    pub(crate) mail: Option<MailRun>,
    /// In a batch, the first outside failure of a call that named it.
    pub(crate) outside: Option<String>,
}

/// Why there is no event that a call is for.
pub(crate) enum NotInHand {
    /// A version is probed.
    Probed,
    /// The call names an item outside of a batch, none in a batch, or one that is not there.
    Invalid(String),
}

/// The names of a call that is for the event in hand, and of the same tied to an item of a batch.
pub(crate) type Names = (&'static str, &'static str);

impl Hand {
    pub(crate) fn one(event: &Arc<Event>) -> Self {
        Self::One(Held::new(event))
    }

    /// How many events a call is given, for what it may use.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Nothing | Self::One(_) => 1,
            Self::Batch(items) => items.len(),
        }
    }

    /// The event that a call is for, and its index.
    pub(crate) fn held(&mut self, item: Option<u32>, (plain, tied): Names) -> Result<(u32, &mut Held), NotInHand> {
        let invalid = |text: String| Err(NotInHand::Invalid(text));
        match (self, item) {
            (Self::Nothing, _) => Err(NotInHand::Probed),
            (Self::One(held), None) => Ok((0, held)),
            (Self::One(_), Some(_)) => invalid(format!("`{tied}` names an item of a batch; outside a batch use `{plain}`")),
            (Self::Batch(_), None) => invalid(format!("`{plain}` names no item; in a batch use `{tied}`")),
            (Self::Batch(items), Some(index)) => {
                let count = items.len();
                match items.get_mut(index as usize) {
                    Some(held) => Ok((index, held)),
                    None => invalid(format!("`{tied}`: the batch has no item {index} (it has {count}, counted from 0)")),
                }
            }
        }
    }
}

impl Held {
    pub(crate) fn new(event: &Arc<Event>) -> Self {
        Self { event: Arc::clone(event), mail: None, outside: None }
    }
}

/// State of one store.
pub(crate) struct State {
    pub(crate) setup: Arc<Setup>,
    /// What binds this call: the handler's limits, those that are by event as many times as it has events.
    pub(crate) limits: Limits,
    pub(crate) hand: Hand,
    pub(crate) deadline: Instant,
    /// What the wall clock shows all through the run, for a test case; none: what time it is.
    pub(crate) clock: Option<Timestamp>,
    pub(crate) limiter: Limiter,
    pub(crate) log: GuestLog,
    /// What the guest reads on stdin.
    pub(crate) stdin: Bytes,
    /// What was published in this run; nothing of it has left.
    pub(crate) outbox: Outbox,
    /// Whether somebody waits for a reply, and what it is: the last one counts.
    pub(crate) wants_reply: bool,
    pub(crate) reply: Option<Arc<Event>>,
    /// What was asked of buckets.
    pub(crate) buckets: Asked,
    /// Requests and mails begun.
    pub(crate) requests: u32,
    /// The first outside failure that a host call answered with; of calls that named an item of a batch, see [`Held::outside`].
    pub(crate) outside: Option<String>,
    /// The counted limit that was passed.
    pub(crate) over: Option<Limit>,
    /// What requests came to.
    pub(crate) noted: Noted,
    /// Imports that were denied and said so in the log: each once, however often it is called.
    pub(crate) denied: Vec<&'static str>,
    // Before the table: bodies of requests are told that the run has ended before their writers in the table go.
    http: Option<(WasiHttpCtx, Requests)>,
    table: ResourceTable,
    // Made on first use: many handlers never touch WASI (engine-floor.md: 0.3 µs an event).
    wasi: Option<WasiCtx>,
    /// In its place for a core module, which has a table of its own.
    preview1: Option<WasiP1Ctx>,
}

impl State {
    pub(crate) fn new(setup: &Arc<Setup>, hand: Hand, deadline: Instant) -> Self {
        let limits = setup.limits.of_batch(hand.len());
        let mut table = ResourceTable::new();
        table.set_max_capacity(setup.limits.handles as usize);
        Self {
            limiter: Limiter::new(&limits),
            log: GuestLog::new(limits.output),
            setup: Arc::clone(setup),
            limits,
            hand,
            deadline,
            clock: None,
            stdin: Bytes::new(),
            wants_reply: false,
            reply: None,
            outbox: Outbox::default(),
            buckets: Asked::default(),
            requests: 0,
            outside: None,
            over: None,
            noted: Noted::default(),
            denied: Vec::new(),
            table,
            wasi: None,
            preview1: None,
            http: None,
        }
    }

    /// Whether a version is probed: no event is in hand.
    pub(crate) fn is_probed(&self) -> bool {
        matches!(self.hand, Hand::Nothing)
    }

    /// What the guest holds of the host's.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// What a core module has of WASI.
    pub(crate) fn preview1(&mut self) -> &mut WasiP1Ctx {
        self.preview1.get_or_insert_with(|| {
            let mut preview1 = wasi(&self.log, self.clock, &self.stdin).build_p1();
            preview1.ctx().table.set_max_capacity(self.setup.limits.handles as usize);
            preview1
        })
    }

    /// The wall clock that the guest and its effects go by.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.unwrap_or_else(clock::now)
    }
}

/// A wall clock that stands still.
struct Standing(Duration);

impl HostWallClock for Standing {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

/// No folder, no environment, no arguments, no sockets: clocks, random and the log.
fn wasi(log: &GuestLog, clock: Option<Timestamp>, stdin: &Bytes) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    #[cfg(feature = "test-clock")]
    wasi.wall_clock(TestClock);
    wasi.stdin(MemoryInputPipe::new(stdin.clone()))
        .stdout(Stream::new(log, Way::Stdout))
        .stderr(Stream::new(log, Way::Stderr))
        .max_random_size(RANDOM_MAX)
        // The defaults, written down: what asks for any of it is denied before it comes here (host/sockets.rs).
        .allow_ip_name_lookup(false)
        .allow_tcp(false)
        .allow_udp(false);
    if let Some(Timestamp(millis)) = clock {
        wasi.wall_clock(Standing(Duration::from_millis(millis)));
    }
    wasi
}

/// What a guest of a test build takes for the time.
#[cfg(feature = "test-clock")]
struct TestClock;

#[cfg(feature = "test-clock")]
impl wasmtime_wasi::HostWallClock for TestClock {
    fn resolution(&self) -> std::time::Duration {
        std::time::Duration::from_millis(1)
    }

    fn now(&self) -> std::time::Duration {
        crate::clock::wall()
    }
}

/// Headers of a size that servers take; everything that is kept for a request counts (sandbox.md §3, host memory).
fn http() -> WasiHttpCtx {
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(HTTP_FIELDS_MAX);
    http
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: self.wasi.get_or_insert_with(|| wasi(&self.log, self.clock, &self.stdin).build()),
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let made = self.http.take().unwrap_or_else(|| (http(), Requests::new(self)));
        let (ctx, hooks) = self.http.insert(made);
        WasiHttpCtxView { hooks, table: &mut self.table, ctx }
    }
}

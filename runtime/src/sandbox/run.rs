//! One event through one fresh instance, under all limits. Never an error for something that a guest did. Several at once: `batch.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};

use super::classify::{Ending, Fault, Notes, classify};
use super::engine::TICK;
use super::host::http::OverResponse;
use super::programs::{Entry, batch};
use super::state::{Hand, State};
use super::{Program, Setup};
use crate::clock::Timestamp;
use crate::event::Event;
use crate::outbox::Published;
use crate::outcome::{Limit, Outcome};

/// Longest name of a function in a backtrace, in bytes.
const NAME_MAX: usize = 256;

/// One run of one event.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// The event.
    pub event: &'a Arc<Event>,
    /// The queue's name.
    pub queue: &'a str,
    /// The value of the attribute that `order-by` names.
    pub order_key: Option<&'a str>,
    /// Number of this try, from 1.
    pub attempt: u32,
    /// Tries that remain after this one if it asks for a retry.
    pub attempts_left: u32,
    /// When the queue first had the event.
    pub first_seen: Timestamp,
    /// Until when somebody waits for what the guest replies, at most the deadline; none: nobody does.
    pub answer_by: Option<Instant>,
}

impl Job<'_> {
    /// How long its run may take, from now on.
    pub(super) fn time_left(&self, setup: &Setup, now: Instant) -> Duration {
        let deadline = setup.limits.deadline;
        self.answer_by.map_or(deadline, |by| deadline.min(by.saturating_duration_since(now)))
    }
}

/// What a run came to and what it cost.
#[derive(Debug)]
pub struct Report {
    /// What it came to.
    pub outcome: Outcome,
    /// Fuel used, instantiation included.
    pub fuel: u64,
    /// Most linear memory held, in bytes.
    pub memory: u64,
    /// Wall clock.
    pub elapsed: Duration,
    /// What the guest wrote.
    pub log: String,
    /// Frames of a trap, innermost first.
    pub backtrace: Vec<String>,
    /// What the guest published, in the order of its calls. Nothing of it has left: it is to leave before the ack if the outcome is done, and
    /// never otherwise.
    pub published: Vec<Published>,
    /// What the guest replied, if somebody waits for it.
    pub reply: Option<Arc<Event>>,
}

impl Report {
    /// Of a run in which no guest's code ran to an answer.
    pub(super) fn not_loaded(error: &wasmtime::Error, begun: Instant) -> Self {
        Self {
            outcome: not_loaded(error),
            fuel: 0,
            memory: 0,
            elapsed: begun.elapsed(),
            log: String::new(),
            backtrace: Vec::new(),
            published: Vec::new(),
            reply: None,
        }
    }
}

/// Past the deadline while the guest computed.
#[derive(Debug, thiserror::Error)]
#[error("ran past its deadline")]
struct PastDeadline;

/// A store with every limit armed.
pub(super) fn store(program: &Program, setup: &Arc<Setup>, hand: Hand, deadline: Instant) -> wasmtime::Result<Store<State>> {
    let state = State::new(setup, hand, deadline);
    let fuel = state.limits.fuel;
    let mut store = Store::new(program.entry.engine(), state);
    store.limiter(|state| &mut state.limiter);
    store.set_fuel(fuel)?;
    store.set_hostcall_fuel(setup.hostcall_bytes());
    store.set_max_component_handles(setup.limits.handles as usize);
    store.set_epoch_deadline(1);
    // A guest that computes yields its thread every tick, and traps, with its backtrace, once its time is over.
    store.epoch_deadline_callback(|store| {
        if Instant::now() >= store.data().deadline {
            return Err(PastDeadline.into());
        }
        if store.data().noted.over().is_some() {
            return Err(OverResponse.into());
        }
        Ok(UpdateDeadline::Yield(1))
    });
    Ok(store)
}

/// Runs one event; a batch handler gets it as a batch of one.
pub async fn run(program: &Program, setup: &Arc<Setup>, job: Job<'_>) -> Report {
    run_at(program, setup, job, None).await
}

/// Runs one event with a wall clock that shows this time all through the run; none: what time it is. Limits go by real time either way.
pub async fn run_at(program: &Program, setup: &Arc<Setup>, job: Job<'_>, clock: Option<Timestamp>) -> Report {
    let one = match &program.entry {
        Entry::One(one) => one,
        Entry::Batch(_) => return batch::run_at(program, setup, &[job], clock).await.into_one(),
    };
    // One of the instances is the handler's own; sleepers of other handlers can't take it (sandbox.md §4).
    let _permit = setup.permits.acquire().await;
    // Counted from here: what waited for an instance has all its time (events.wit, `time-left`).
    let begun = Instant::now();
    let limit = job.time_left(setup, begun);
    let deadline = begun + limit;
    let mut store = match store(program, setup, Hand::one(job.event), deadline) {
        Ok(store) => store,
        Err(error) => return Report::not_loaded(&error, begun),
    };
    let state = store.data_mut();
    (state.clock, state.limits.deadline, state.wants_reply) = (clock, limit, job.answer_by.is_some());
    let called = bounded(deadline, one.call(setup, &job, &mut store)).await;
    report(store, called, setup, begun)
}

/// The store's callback catches guests that compute; this catches host calls that wait.
pub(super) async fn bounded<T>(deadline: Instant, call: impl Future<Output = Result<T, Stopped>>) -> Result<T, Stopped> {
    let called = tokio::time::timeout_at((deadline + TICK + TICK).into(), call).await;
    called.unwrap_or_else(|_| Err(Stopped::Called(PastDeadline.into())))
}

/// Where a run stopped short of an answer.
pub(super) enum Stopped {
    /// No instance could be made.
    Loading(wasmtime::Error),
    /// In the call.
    Called(wasmtime::Error),
}

/// Where a run stopped that got no instance. A guest's start function runs then too, under its limits like any other code: what stops it, a
/// host call included, is no fault of loading. Only errors that come out of the guest's own frames have a backtrace.
pub(super) fn loading(error: wasmtime::Error) -> Stopped {
    if error.is::<Trap>() || error.is::<PastDeadline>() || error.is::<OverResponse>() || error.is::<WasmBacktrace>() {
        Stopped::Called(error)
    } else {
        Stopped::Loading(error)
    }
}

/// What a call came to that is answered for as a whole.
pub(super) fn report(store: Store<State>, called: Result<Ending, Stopped>, setup: &Setup, begun: Instant) -> Report {
    let left = store.get_fuel().unwrap_or_default();
    let state = store.into_data();
    let fuel = state.limits.fuel.saturating_sub(left);
    let over_response = state.noted.over();
    let mut over = state.over.or(over_response);
    if state.log.is_over() {
        over.get_or_insert(Limit { name: "output", value: state.limits.output });
    }
    let redact = |text: String| setup.redactor.redact(text);
    let (ending, backtrace) = match called {
        // It was answered with an error, and may have been done since; but not with all of what it asked for.
        Ok(_) if over_response.is_some() => fault(&OverResponse.into()),
        Ok(ending) => (ending, Vec::new()),
        Err(Stopped::Called(error)) => fault(&error),
        Err(Stopped::Loading(error)) => {
            let (memory, log) = (state.limiter.peak, redact(state.log.take()));
            return Report { fuel, memory, log, ..Report::not_loaded(&error, begun) };
        }
    };
    let last_words = matches!(ending, Ending::Fault { .. }).then(|| state.log.last_words().map(redact)).flatten();
    let notes = Notes {
        outside: state.outside.or_else(|| state.noted.outside()).map(redact),
        denied: state.limiter.denied,
        over,
        last_words,
        hostcall_bytes: setup.hostcall_bytes() as u64,
    };
    Report {
        outcome: classify(ending.map_text(redact), notes, &state.limits),
        fuel,
        memory: state.limiter.peak,
        elapsed: begun.elapsed(),
        log: redact(state.log.take()),
        backtrace,
        reply: state.reply,
        published: state.outbox.into_published(),
    }
}

fn not_loaded(error: &wasmtime::Error) -> Outcome {
    let reason = format!("{error:#}");
    if error.is::<PoolConcurrencyLimitError>() {
        // Permits are counted so that this can't be: no fault of the event or its handler, which is tried again (sandbox.md §4).
        tracing::error!(%reason, "the pool has no free slot: this is a bug of Weir");
        return Outcome::Host { reason, limit: None, after: None };
    }
    Outcome::Load { reason }
}

/// An error of a probe, for people: a limit is named with its value; else what the guest said of it, where it said something.
pub(super) fn explain(error: &wasmtime::Error, setup: &Setup, last_words: Option<String>) -> String {
    match fault(error) {
        (Ending::Fault { kind: Fault::Other, .. }, _) => {
            setup.redactor.redact(last_words.unwrap_or_else(|| format!("{error:#}")))
        }
        (ending, _) => {
            let notes = Notes { hostcall_bytes: setup.hostcall_bytes() as u64, ..Notes::default() };
            classify(ending, notes, &setup.limits).reason()
        }
    }
}

/// What kind of fault an error is, its text and the frames it came through.
fn fault(error: &wasmtime::Error) -> (Ending, Vec<String>) {
    let kind = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Fault::Fuel,
        Some(Trap::StackOverflow) => Fault::Stack,
        Some(_) => Fault::Other,
        None if error.is::<PastDeadline>() => Fault::Deadline,
        None if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full)) => Fault::Handles,
        None => by_text(error),
    };
    let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    (Ending::Fault { kind, text: error.root_cause().to_string() }, frames)
}

/// Two bounds of the engine have no error type of their own (wasmtime 48.0.8: component/func/options.rs, vm/component/handle_table.rs).
/// A text that changes costs the name of the limit, not the outcome.
fn by_text(error: &wasmtime::Error) -> Fault {
    let text = error.root_cause().to_string();
    if text.contains("fuel allocated for hostcalls") {
        Fault::Arguments
    } else if text.contains("handle limit exceeded") {
        Fault::Handles
    } else {
        Fault::Other
    }
}

fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    // A component may call its functions what it likes: megabytes, or a short name that stands for megabytes.
    let cut = |text: &str| text.get(..text.floor_char_boundary(NAME_MAX)).unwrap_or_default().to_owned();
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => cut(&format!("{:#}", rustc_demangle::demangle(&cut(name)))),
        None => format!("<wasm function {}>", frame.func_index()),
    };
    backtrace.frames().iter().map(name).collect()
}

//! One event through one fresh instance, under all limits. Never an error for something that a guest did.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use wasmtime::component::{ComponentType, Lift, Lower, ResourceTableError, TypedFunc};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};

use super::classify::{Ending, Fault, Notes, classify};
use super::engine::TICK;
use super::host::http::OverResponse;
use super::state::State;
use super::{Program, Setup};
use crate::clock::{Timestamp, millis};
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
}

impl Report {
    /// Of a run in which no guest's code ran to an answer.
    fn not_loaded(error: &wasmtime::Error, begun: Instant) -> Self {
        Self {
            outcome: not_loaded(error),
            fuel: 0,
            memory: 0,
            elapsed: begun.elapsed(),
            log: String::new(),
            backtrace: Vec::new(),
            published: Vec::new(),
        }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct EventIn<'a> {
    id: &'a str,
    source: &'a str,
    #[component(name = "type")]
    kind: &'a str,
    subject: Option<&'a str>,
    time: Option<&'a str>,
    datacontenttype: Option<&'a str>,
    dataschema: Option<&'a str>,
    extensions: &'a [(&'a str, &'a str)],
    data: Option<&'a [u8]>,
}

impl<'a> EventIn<'a> {
    /// Borrows an event; `extensions` are those that the guest is shown.
    pub(super) fn new(event: &'a Event, extensions: &'a [(&'a str, &'a str)]) -> Self {
        Self {
            id: &event.id,
            source: &event.source,
            kind: &event.kind,
            subject: event.subject.as_deref(),
            time: event.time.as_deref(),
            datacontenttype: event.datacontenttype.as_deref(),
            dataschema: event.dataschema.as_deref(),
            extensions,
            data: event.data.as_deref(),
        }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct DeliveryIn<'a> {
    pub(super) handler: &'a str,
    pub(super) queue: &'a str,
    #[component(name = "order-key")]
    pub(super) order_key: Option<&'a str>,
    pub(super) attempt: u32,
    #[component(name = "attempts-left")]
    pub(super) attempts_left: u32,
    #[component(name = "first-seen")]
    pub(super) first_seen: u64,
    #[component(name = "time-left")]
    pub(super) time_left: u64,
    #[component(name = "idempotency-key")]
    pub(super) idempotency_key: &'a str,
    #[component(name = "wants-reply")]
    pub(super) wants_reply: bool,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct RetryOut {
    reason: String,
    after: Option<u64>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum FailureOut {
    #[component(name = "retry")]
    Retry(RetryOut),
    #[component(name = "reject")]
    Reject(String),
}

pub(super) type Answer = (Result<(), FailureOut>,);
pub(super) type Handle<'a> = TypedFunc<(EventIn<'a>, DeliveryIn<'a>), Answer>;

/// Past the deadline while the guest computed.
#[derive(Debug, thiserror::Error)]
#[error("ran past its deadline")]
struct PastDeadline;

/// A store with every limit armed.
pub(super) fn store(
    program: &Program,
    setup: &Arc<Setup>,
    event: Option<Arc<Event>>,
    deadline: Instant,
) -> wasmtime::Result<Store<State>> {
    let mut store = Store::new(program.pre.engine(), State::new(setup, event, deadline));
    store.limiter(|state| &mut state.limiter);
    store.set_fuel(setup.limits.fuel)?;
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

/// Runs one event.
pub async fn run(program: &Program, setup: &Arc<Setup>, job: Job<'_>) -> Report {
    run_at(program, setup, job, None).await
}

/// Runs one event with a wall clock that shows this time all through the run; none: what time it is. Limits go by real time either way.
pub async fn run_at(program: &Program, setup: &Arc<Setup>, job: Job<'_>, clock: Option<Timestamp>) -> Report {
    // One of the instances is the handler's own; sleepers of other handlers can't take it (sandbox.md §4).
    let _permit = setup.permits.acquire().await;
    // Counted from here: what waited for an instance has all its time (events.wit, `time-left`).
    let begun = Instant::now();
    let deadline = begun + setup.limits.deadline;
    let mut store = match store(program, setup, Some(Arc::clone(job.event)), deadline) {
        Ok(store) => store,
        Err(error) => return Report::not_loaded(&error, begun),
    };
    store.data_mut().clock = clock;
    let called = {
        let call = call(program, setup, &job, &mut store);
        // The callback catches guests that compute; this catches host calls that wait.
        tokio::time::timeout_at((deadline + TICK + TICK).into(), call).await
    };
    let called = called.unwrap_or_else(|_| Err(Stopped::Called(PastDeadline.into())));
    report(store, called, setup, begun)
}

/// Where a run stopped short of an answer.
enum Stopped {
    /// No instance could be made.
    Loading(wasmtime::Error),
    /// In the call.
    Called(wasmtime::Error),
}

async fn call(program: &Program, setup: &Setup, job: &Job<'_>, store: &mut Store<State>) -> Result<Ending, Stopped> {
    let instance = match program.pre.instantiate_async(&mut *store).await {
        Ok(instance) => instance,
        // A guest's start function runs here, under its limits like any other code: what stops it, a host call included, is no fault of
        // loading. Only errors that come out of the guest's own frames have a backtrace.
        Err(error)
            if error.is::<Trap>() || error.is::<PastDeadline>() || error.is::<OverResponse>() || error.is::<WasmBacktrace>() =>
        {
            return Err(Stopped::Called(error));
        }
        Err(error) => return Err(Stopped::Loading(error)),
    };
    let handle: Handle<'_> = instance.get_typed_func(&mut *store, program.handle).map_err(Stopped::Loading)?;
    let event = job.event.as_ref();
    let shown = |(name, _): &&(String, String)| !name.starts_with("weir");
    let extensions: Vec<(&str, &str)> =
        event.extensions.iter().filter(shown).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let event_in = EventIn::new(event, &extensions);
    let key = idempotency_key(event, &setup.handler);
    let delivery = DeliveryIn {
        handler: &setup.handler,
        queue: job.queue,
        order_key: job.order_key,
        attempt: job.attempt,
        attempts_left: job.attempts_left,
        first_seen: job.first_seen.0,
        time_left: millis(setup.limits.deadline),
        idempotency_key: &key,
        wants_reply: false,
    };
    let (answer,) = handle.call_async(&mut *store, (event_in, delivery)).await.map_err(Stopped::Called)?;
    Ok(match answer {
        Ok(()) => Ending::Done,
        Err(FailureOut::Reject(reason)) => Ending::Reject { reason },
        Err(FailureOut::Retry(retry)) => Ending::Retry { reason: retry.reason, after: retry.after.map(Duration::from_millis) },
    })
}

/// The same over attempts, copies and replays (delivery.md §8): SHA-256 of source, id and handler, each with its length.
fn idempotency_key(event: &Event, handler: &str) -> String {
    let mut hash = Sha256::new();
    for part in [&event.source, &event.id, handler] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut text = [0; 64];
    // The text has room for the 32 bytes. `hex::encode` would put it together letter by letter.
    let _ = hex::encode_to_slice(hash.finalize(), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn report(store: Store<State>, called: Result<Ending, Stopped>, setup: &Setup, begun: Instant) -> Report {
    let fuel = setup.limits.fuel.saturating_sub(store.get_fuel().unwrap_or_default());
    let state = store.into_data();
    let over_response = state.noted.over();
    let mut over = state.over.or(over_response);
    if state.log.is_over() {
        over.get_or_insert(Limit { name: "output", value: setup.limits.output });
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
        outcome: classify(ending.map_text(redact), notes, &setup.limits),
        fuel,
        memory: state.limiter.peak,
        elapsed: begun.elapsed(),
        log: redact(state.log.take()),
        backtrace,
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

/// Whether the handler's function has the type of the contract.
pub(super) fn check_type(
    instance: &wasmtime::component::Instance,
    store: &mut Store<State>,
    program: &Program,
) -> wasmtime::Result<()> {
    let _: Handle<'_> = instance.get_typed_func(store, program.handle)?;
    Ok(())
}

//! `wasi:keyvalue`: counts what one event asks of its buckets, and hands it to them (`keyvalue.rs`). How it looks to a guest, in two
//! shapes: `keyvalue/shapes.rs`.
//!
//! These calls are no requests: `requests` bounds what is sent to others, and a digest of a thousand items is as many keys. They have
//! counts of their own, beside fuel and deadline, because one call costs the host more than it costs the guest.
//!
//! Considered and left out: charging fuel for them. Fuel is equal for equal input wherever a handler runs, and what a bucket holds is not
//! the handler's input.

mod shapes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::Resource;
use wasmtime::{AsContextMut as _, StoreContextMut};

pub(crate) use self::shapes::add;
use crate::keyvalue::{BucketError, Opened, Page, Write, Written};
use crate::outcome::Limit;
use crate::sandbox::state::State;

/// Most keys that one event names, and pages that it asks for: three for each of a thousand items of a digest (list, read, remove), three
/// times over.
const KEYS_MAX: u64 = 10_000;
/// Most bytes of keys and values that one event moves, both ways: what one event may publish under the highest ceiling.
const BYTES_MAX: u64 = 64 << 20;
/// Most bytes of values that compare-and-swap handles of one run hold: a few of the largest.
const HELD_MAX: usize = 8 << 20;

/// What the run has asked of its buckets.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    keys: u64,
    bytes: u64,
    held: usize,
}

/// A bucket that the guest has opened.
pub(crate) struct BucketHandle(Arc<Opened>);

/// A compare-and-swap that the guest has begun.
pub(crate) struct CasHandle {
    bucket: Arc<Opened>,
    key: String,
    /// What has to be there still; counted in [`Asked::held`].
    current: Option<Vec<u8>>,
}

/// What a guest is told; the same variant in both shapes.
#[derive(Debug)]
pub(crate) enum Refusal {
    Denied,
    Other(String),
}

type Told<T> = wasmtime::Result<Result<T, Refusal>>;

/// A call over a counted limit: it traps, so that a handler that ignores errors is not acknowledged with a write missing.
#[derive(Debug, thiserror::Error)]
#[error("asked more of its buckets than its limit `{0}`")]
struct OverLimit(&'static str);

fn count(state: &mut State, keys: u64, bytes: usize) -> wasmtime::Result<()> {
    let asked = &mut state.buckets;
    asked.keys = asked.keys.saturating_add(keys);
    asked.bytes = asked.bytes.saturating_add(bytes as u64);
    // As many times as the call has events: one, or those of a batch.
    let (keys_max, bytes_max) = (KEYS_MAX * state.hand.len() as u64, BYTES_MAX * state.hand.len() as u64);
    let limit = if asked.keys > keys_max {
        Limit { name: "keyvalue", value: keys_max }
    } else if asked.bytes > bytes_max {
        Limit { name: "keyvalue-bytes", value: bytes_max }
    } else {
        return Ok(());
    };
    state.over.get_or_insert(limit);
    Err(OverLimit(limit.name).into())
}

/// A host call may take nine tenths of the time that is left (sandbox.md §3): a store that hangs is `host`, not `deadline`.
fn bound(state: &State) -> Duration {
    state.deadline.saturating_duration_since(Instant::now()) / 10 * 9
}

/// An outside failure is noted for the outcome.
fn told<T>(state: &mut State, result: Result<T, BucketError>) -> Result<T, Refusal> {
    result.map_err(|error| match error {
        BucketError::Refused(text) => Refusal::Other(text),
        BucketError::Unavailable(text) => {
            state.outside.get_or_insert_with(|| text.clone());
            Refusal::Other(text)
        }
    })
}

fn open(mut store: StoreContextMut<'_, State>, name: &str) -> Told<Resource<BucketHandle>> {
    let state = store.data_mut();
    let granted = state.setup.buckets.as_ref();
    if let Some(opened) = granted.and_then(|granted| granted.open(name)) {
        return Ok(Ok(state.table().push(BucketHandle(opened))?));
    }
    const IMPORT: &str = "wasi:keyvalue";
    if !state.denied.contains(&IMPORT) {
        let line = granted.map(|granted| granted.line_with(name)).unwrap_or_default();
        let (name, handler) = (name.escape_debug().to_string(), &state.setup.handler);
        // Its name may be as long as a guest likes, and stands here twice.
        if name.len() <= crate::keyvalue::KEY_MAX {
            let where_to = format!("add to weir.toml under [handler.{handler}.grants]: {line}");
            state.log.note(&format!("weir: denied: bucket `{name}` is not granted ({where_to})"));
        }
        state.denied.push(IMPORT);
    }
    Ok(Err(Refusal::Denied))
}

fn opened(state: &mut State, bucket: &Resource<BucketHandle>) -> wasmtime::Result<Arc<Opened>> {
    Ok(Arc::clone(&state.table().get(bucket)?.0))
}

async fn read_of(mut store: StoreContextMut<'_, State>, bucket: Arc<Opened>, keys: &[String]) -> Told<Vec<Option<Vec<u8>>>> {
    let state = store.data_mut();
    count(state, keys.len().max(1) as u64, keys.iter().map(String::len).sum())?;
    if state.is_probed() {
        // Nothing outside is asked while a version is probed: buckets are empty then.
        return Ok(Ok(vec![None; keys.len()]));
    }
    let bound = bound(state);
    let read = bucket.read(keys, bound).await;
    let state = store.data_mut();
    if let Ok(values) = &read {
        count(state, 0, values.iter().flatten().map(Vec::len).sum())?;
    }
    Ok(told(state, read))
}

async fn read(
    mut store: StoreContextMut<'_, State>,
    bucket: Resource<BucketHandle>,
    keys: &[String],
) -> Told<Vec<Option<Vec<u8>>>> {
    let bucket = opened(store.data_mut(), &bucket)?;
    read_of(store, bucket, keys).await
}

async fn list(mut store: StoreContextMut<'_, State>, bucket: Resource<BucketHandle>, after: u64) -> Told<Page> {
    let state = store.data_mut();
    let bucket = opened(state, &bucket)?;
    count(state, 1, 0)?;
    if state.is_probed() {
        return Ok(Ok(Page::default()));
    }
    let bound = bound(state);
    let page = bucket.list(after, bound).await;
    let state = store.data_mut();
    if let Ok(page) = &page {
        count(state, 0, page.keys.iter().map(String::len).sum())?;
    }
    Ok(told(state, page))
}

async fn write_of(mut store: StoreContextMut<'_, State>, bucket: Arc<Opened>, write: Write) -> Told<Written> {
    let (keys, bytes) = match &write {
        Write::Put(entries) => {
            let bytes = |(key, value): &(String, Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len);
            (entries.len().max(1), entries.iter().map(bytes).sum())
        }
        Write::Increment { key, .. } => (1, key.len()),
        Write::Swap { key, value, .. } => (1, key.len() + value.len()),
    };
    let state = store.data_mut();
    count(state, keys as u64, bytes)?;
    if state.is_probed() {
        let text = format!("bucket `{}`: nothing is written while a new version is probed", bucket.name());
        return Ok(Err(Refusal::Other(text)));
    }
    let bound = bound(state);
    let written = bucket.write(write, bound).await;
    Ok(told(store.data_mut(), written))
}

async fn write(mut store: StoreContextMut<'_, State>, bucket: Resource<BucketHandle>, write: Write) -> Told<Written> {
    let bucket = opened(store.data_mut(), &bucket)?;
    write_of(store, bucket, write).await
}

/// Begins a compare-and-swap with what is there now.
async fn cas(mut store: StoreContextMut<'_, State>, bucket: Resource<BucketHandle>, key: String) -> Told<Resource<CasHandle>> {
    let bucket = opened(store.data_mut(), &bucket)?;
    match read_of(store.as_context_mut(), Arc::clone(&bucket), std::slice::from_ref(&key)).await? {
        Ok(values) => hold(store.data_mut(), bucket, key, values.into_iter().next().flatten()),
        Err(refusal) => Ok(Err(refusal)),
    }
}

fn hold(state: &mut State, bucket: Arc<Opened>, key: String, current: Option<Vec<u8>>) -> Told<Resource<CasHandle>> {
    let bytes = current.as_ref().map_or(0, Vec::len);
    if state.buckets.held + bytes > HELD_MAX {
        let text =
            format!("bucket `{}`: compare-and-swap handles would hold more than {HELD_MAX} bytes of values", bucket.name());
        return Ok(Err(Refusal::Other(text)));
    }
    let handle = state.table().push(CasHandle { bucket, key, current })?;
    state.buckets.held += bytes;
    Ok(Ok(handle))
}

fn current(mut store: StoreContextMut<'_, State>, cas: &Resource<CasHandle>) -> wasmtime::Result<Option<Vec<u8>>> {
    let state = store.data_mut();
    let value = state.table().get(cas)?.current.clone();
    count(state, 1, value.as_ref().map_or(0, Vec::len))?;
    Ok(value)
}

/// What became of a swap that was not refused.
enum Swapped {
    Done,
    /// Somebody else was faster: what is there now.
    Stale(Resource<CasHandle>),
}

async fn swap(mut store: StoreContextMut<'_, State>, cas: Resource<CasHandle>, value: Vec<u8>) -> Told<Swapped> {
    let CasHandle { bucket, key, current } = let_go(store.data_mut(), cas)?;
    let write = Write::Swap { key: key.clone(), expected: current, value };
    match write_of(store.as_context_mut(), Arc::clone(&bucket), write).await? {
        Ok(Written::Stale(found)) => {
            let state = store.data_mut();
            count(state, 0, found.as_ref().map_or(0, Vec::len))?;
            Ok(hold(state, bucket, key, found)?.map(Swapped::Stale))
        }
        Ok(_) => Ok(Ok(Swapped::Done)),
        Err(refusal) => Ok(Err(refusal)),
    }
}

fn let_go(state: &mut State, cas: Resource<CasHandle>) -> wasmtime::Result<CasHandle> {
    let handle = state.table().delete(cas)?;
    state.buckets.held = state.buckets.held.saturating_sub(handle.current.as_ref().map_or(0, Vec::len));
    Ok(handle)
}

//! The two drafts of `wasi:keyvalue` as a guest imports them: cursors are numbers or texts, increments unsigned or signed, and only the
//! second has compare-and-swap. What the calls do: `keyvalue.rs`.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType};

use super::{BucketHandle, CasHandle, Refusal, Swapped, Told};
use crate::keyvalue::{Page, Write, Written};
use crate::sandbox::imports::{KEYVALUE_DRAFT, KEYVALUE_DRAFT_2};
use crate::sandbox::state::State;

/// As both drafts have it. `no-such-store` is never answered: who is not granted a bucket is not told whether there is one.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct NumberedPage {
    keys: Vec<String>,
    cursor: Option<u64>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct NamedPage {
    keys: Vec<String>,
    cursor: Option<String>,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    StoreError(Error),
    #[component(name = "cas-failed")]
    CasFailed(Resource<CasHandle>),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied => Self::AccessDenied,
            Refusal::Other(text) => Self::Other(text),
        }
    }
}

type Bucket = Resource<BucketHandle>;
type Store<'a> = StoreContextMut<'a, State>;
type Entry = (String, Vec<u8>);

/// The answer of a function: one result.
fn answer<T>(told: Told<T>) -> wasmtime::Result<(Result<T, Error>,)> {
    Ok((told?.map_err(Error::from),))
}

/// Links the interfaces of both drafts.
pub(crate) fn add(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for version in [KEYVALUE_DRAFT, KEYVALUE_DRAFT_2] {
        let mut instance = linker.instance(&format!("wasi:keyvalue/store@{version}"))?;
        store(&mut instance)?;
        if version == KEYVALUE_DRAFT {
            list_by_number(&mut instance)?
        } else {
            list_by_text(&mut instance)?
        }
        let mut instance = linker.instance(&format!("wasi:keyvalue/atomics@{version}"))?;
        if version == KEYVALUE_DRAFT {
            increment_unsigned(&mut instance)?
        } else {
            atomics(&mut instance)?
        }
        batch(&mut linker.instance(&format!("wasi:keyvalue/batch@{version}"))?)?;
    }
    Ok(())
}

fn store(instance: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    instance.resource("bucket", ResourceType::host::<BucketHandle>(), |mut store, rep| {
        store.data_mut().table().delete(Bucket::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("open", |store: Store<'_>, (name,): (String,)| answer(super::open(store, &name)))?;
    instance.func_wrap_async("[method]bucket.get", |store: Store<'_>, (bucket, key): (Bucket, String)| {
        Box::new(async move { answer(super::read(store, bucket, &[key]).await.map(|read| read.map(first))) })
    })?;
    instance.func_wrap_async("[method]bucket.set", |store: Store<'_>, (bucket, key, value): (Bucket, String, Vec<u8>)| {
        Box::new(async move { answer(put(store, bucket, vec![(key, Some(value))]).await) })
    })?;
    instance.func_wrap_async("[method]bucket.delete", |store: Store<'_>, (bucket, key): (Bucket, String)| {
        Box::new(async move { answer(put(store, bucket, vec![(key, None)]).await) })
    })?;
    instance.func_wrap_async("[method]bucket.exists", |store: Store<'_>, (bucket, key): (Bucket, String)| {
        Box::new(async move {
            let read = super::read(store, bucket, &[key]).await;
            answer(read.map(|read| read.map(|values| first(values).is_some())))
        })
    })
}

fn first(values: Vec<Option<Vec<u8>>>) -> Option<Vec<u8>> {
    values.into_iter().next().flatten()
}

async fn put(store: Store<'_>, bucket: Bucket, entries: Vec<(String, Option<Vec<u8>>)>) -> Told<()> {
    Ok(super::write(store, bucket, Write::Put(entries)).await?.map(|_| ()))
}

fn list_by_number(instance: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    instance.func_wrap_async("[method]bucket.list-keys", |store: Store<'_>, (bucket, cursor): (Bucket, Option<u64>)| {
        Box::new(async move {
            let page = super::list(store, bucket, cursor.unwrap_or_default()).await;
            answer(page.map(|page| page.map(|Page { keys, next }| NumberedPage { keys, cursor: next })))
        })
    })
}

fn list_by_text(instance: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    instance.func_wrap_async("[method]bucket.list-keys", |store: Store<'_>, (bucket, cursor): (Bucket, Option<String>)| {
        Box::new(async move {
            let Ok(after) = cursor.as_deref().unwrap_or("0").parse() else {
                let text = "the cursor is none that `list-keys` answered with".to_owned();
                return answer(Ok(Err(Refusal::Other(text))));
            };
            let page = super::list(store, bucket, after).await;
            answer(page.map(|page| page.map(|Page { keys, next }| NamedPage { keys, cursor: next.map(|next| next.to_string()) })))
        })
    })
}

async fn increment(store: Store<'_>, bucket: Bucket, key: String, delta: i64) -> Told<i64> {
    Ok(super::write(store, bucket, Write::Increment { key, delta }).await?.map(|written| match written {
        Written::Number(number) => number,
        Written::Done | Written::Stale(_) => 0,
    }))
}

/// Numbers are signed where they are kept: what one of these can't say is refused.
fn increment_unsigned(instance: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    instance.func_wrap_async("increment", |store: Store<'_>, (bucket, key, delta): (Bucket, String, u64)| {
        Box::new(async move {
            let beyond = |what: String| Refusal::Other(format!("{what}, and numbers go from 0 to {} here", i64::MAX));
            let Ok(delta) = i64::try_from(delta) else {
                return answer(Ok(Err(beyond(format!("{delta} would be added")))));
            };
            let sum = increment(store, bucket, key, delta).await?;
            answer(Ok(sum.and_then(|sum| u64::try_from(sum).map_err(|_| beyond(format!("the number is now {sum}"))))))
        })
    })
}

fn atomics(instance: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    instance.func_wrap_async("increment", |store: Store<'_>, (bucket, key, delta): (Bucket, String, i64)| {
        Box::new(async move { answer(increment(store, bucket, key, delta).await) })
    })?;
    instance.resource("cas", ResourceType::host::<CasHandle>(), |mut store, rep| {
        super::let_go(store.data_mut(), Resource::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap_async("[static]cas.new", |store: Store<'_>, (bucket, key): (Bucket, String)| {
        Box::new(async move { answer(super::cas(store, bucket, key).await) })
    })?;
    instance.func_wrap("[method]cas.current", |store: Store<'_>, (cas,): (Resource<CasHandle>,)| {
        answer(super::current(store, &cas).map(Ok))
    })?;
    instance.func_wrap_async("swap", |store: Store<'_>, (cas, value): (Resource<CasHandle>, Vec<u8>)| {
        Box::new(async move {
            Ok((match super::swap(store, cas, value).await? {
                Ok(Swapped::Done) => Ok(()),
                Ok(Swapped::Stale(newer)) => Err(CasError::CasFailed(newer)),
                Err(refusal) => Err(CasError::StoreError(refusal.into())),
            },))
        })
    })
}

fn batch(instance: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    instance.func_wrap_async("get-many", |store: Store<'_>, (bucket, keys): (Bucket, Vec<String>)| {
        Box::new(async move {
            let read = super::read(store, bucket, &keys).await;
            let paired = |values: Vec<Option<Vec<u8>>>| -> Vec<Option<Entry>> {
                keys.into_iter().zip(values).map(|(key, value)| Some((key, value?))).collect()
            };
            answer(read.map(|read| read.map(paired)))
        })
    })?;
    instance.func_wrap_async("set-many", |store: Store<'_>, (bucket, entries): (Bucket, Vec<Entry>)| {
        let entries = entries.into_iter().map(|(key, value)| (key, Some(value))).collect();
        Box::new(async move { answer(put(store, bucket, entries).await) })
    })?;
    instance.func_wrap_async("delete-many", |store: Store<'_>, (bucket, keys): (Bucket, Vec<String>)| {
        let entries = keys.into_iter().map(|key| (key, None)).collect();
        Box::new(async move { answer(put(store, bucket, entries).await) })
    })
}

//! Which place a grant means, and what all buckets of one process share: the store, servers by URL, the bound on writes under way.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::{Bucket, BucketError, Buckets, Granted, Opened, Overlay};
use crate::config::BucketGrant;
use crate::store::{Store, StoreUrl};

/// Most KiB of writes under way at once, over all handlers. A write outlives the guest that asked for it, so nothing else bounds them.
pub(super) const UNDER_WAY_KIB: usize = 64 << 10;

/// The places of one process.
#[derive(Debug)]
pub struct Places {
    runtime: Handle,
    under_way: Arc<Semaphore>,
    /// `[server] group`: installations that share a server do not meet.
    group: String,
    store: Option<Arc<Store>>,
    writes: Writes,
    // Strong: they are no more than the configuration names, and what a trial wrote has to stay. Held for one look.
    opened: Mutex<Vec<Opening>>,
}

/// A place, by the URL of the grants that mean it.
type Opening = (Option<StoreUrl>, Arc<dyn Buckets>);

/// Where writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writes {
    /// To where the buckets are.
    There,
    /// Into memory, over what is there.
    Over,
    /// Into memory, over nothing.
    Nowhere,
}

impl Places {
    /// Buckets in the store, or at the URL of their grant. Nothing is connected before the first call.
    #[must_use]
    pub fn new(store: Arc<Store>, group: &str, runtime: Handle) -> Self {
        Self::of(Some(store), group, runtime, Writes::There)
    }

    /// The same, only read: what is written stays in memory, where later reads find it. Without a store its buckets begin empty.
    #[must_use]
    pub fn overlaid(store: Option<Arc<Store>>, group: &str, runtime: Handle) -> Self {
        Self::of(store, group, runtime, Writes::Over)
    }

    /// Buckets in memory that begin empty, whatever URL a grant has.
    #[must_use]
    pub fn empty(runtime: Handle) -> Self {
        Self::of(None, "", runtime, Writes::Nowhere)
    }

    fn of(store: Option<Arc<Store>>, group: &str, runtime: Handle, writes: Writes) -> Self {
        let under_way = Arc::new(Semaphore::new(UNDER_WAY_KIB));
        Self { runtime, under_way, group: group.to_owned(), store, writes, opened: Mutex::default() }
    }

    /// The buckets of a handler; none without a grant.
    ///
    /// # Errors
    /// When a server's certificates can't be read.
    pub fn granted(&self, handler: &str, grants: &[BucketGrant]) -> Result<Option<Arc<Granted>>, BucketError> {
        let opened = grants.iter().map(|grant| {
            let owner = grant.url.is_none().then(|| handler.to_owned());
            Ok(Opened {
                bucket: Bucket { name: grant.bucket.clone(), owner, max_bytes: grant.max_size },
                place: self.place(grant.url.as_ref())?,
                runtime: self.runtime.clone(),
                under_way: Arc::clone(&self.under_way),
            })
        });
        let opened = opened.collect::<Result<Vec<_>, BucketError>>()?;
        Ok((!opened.is_empty()).then(|| Arc::new(Granted::new(opened))))
    }

    /// Waits until no write is under way: for a shutdown, which bounds it.
    pub async fn idle(&self) {
        // All of it is there only when nobody holds any. It is never closed.
        let _all = self.under_way.acquire_many(u32::try_from(UNDER_WAY_KIB).unwrap_or(u32::MAX)).await;
    }

    fn place(&self, url: Option<&StoreUrl>) -> Result<Arc<dyn Buckets>, BucketError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, place)) = opened.iter().find(|(known, _)| known.as_ref() == url) {
            return Ok(Arc::clone(place));
        }
        let place: Arc<dyn Buckets> = match self.writes {
            Writes::There => self.there(url)?.unwrap_or_else(|| Arc::new(Overlay::over_nothing())),
            Writes::Over => match self.there(url)? {
                Some(below) => Arc::new(Overlay::over(below)),
                None => Arc::new(Overlay::over_nothing()),
            },
            Writes::Nowhere => Arc::new(Overlay::over_nothing()),
        };
        opened.push((url.cloned(), Arc::clone(&place)));
        Ok(place)
    }

    /// Where buckets of this URL really are.
    fn there(&self, url: Option<&StoreUrl>) -> Result<Option<Arc<dyn Buckets>>, BucketError> {
        match url {
            None | Some(StoreUrl::Disk) => Ok(self.store.as_ref().map(|store| Arc::clone(store) as _)),
            #[cfg(feature = "redis")]
            Some(StoreUrl::Redis(url)) => {
                let server = crate::redis::Redis::new(url).map_err(|problem| BucketError::Unavailable(problem.to_string()))?;
                Ok(Some(Arc::new(super::redis::RedisBuckets::new(Arc::new(server), &self.group))))
            }
        }
    }
}

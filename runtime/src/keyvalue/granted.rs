//! The buckets of one handler, as its grant names them: bounds of keys and values, and time. Counts per event and the guest's own
//! errors: `sandbox/host/keyvalue.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::{BATCH_MAX, Bucket, BucketError, Buckets, KEY_MAX, Page, VALUE_MAX, Values, Write, Written};

/// How long a write may take, whatever becomes of its guest: longer than a server has for a command, or a disk for a sync.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// Least that a write under way counts for, in KiB: its task and buffers.
const WRITE_KIB: usize = 4;

/// What a handler may reach.
#[derive(Debug, Default)]
pub struct Granted {
    buckets: BTreeMap<String, Arc<Opened>>,
}

impl Granted {
    pub(super) fn new(buckets: impl IntoIterator<Item = Opened>) -> Self {
        Self { buckets: buckets.into_iter().map(|opened| (opened.bucket.name.clone(), Arc::new(opened))).collect() }
    }

    /// The bucket of this name, if it is granted.
    #[must_use]
    pub fn open(&self, name: &str) -> Option<Arc<Opened>> {
        self.buckets.get(name).cloned()
    }

    /// The line that would grant this bucket too, for `[handler.NAME.grants]`.
    #[must_use]
    pub fn line_with(&self, name: &str) -> String {
        let names = self.buckets.keys().map(String::as_str).chain([name]);
        let items: Vec<String> = names.map(|name| format!("{{ bucket = \"{}\" }}", name.escape_debug())).collect();
        format!("keyvalue = [{}]", items.join(", "))
    }
}

/// One bucket of one handler.
#[derive(Debug)]
pub struct Opened {
    pub(super) bucket: Bucket,
    pub(super) place: Arc<dyn Buckets>,
    /// Writes run here, whatever becomes of the guest's own runtime.
    pub(super) runtime: Handle,
    /// KiB of writes under way, of all handlers.
    pub(super) under_way: Arc<Semaphore>,
}

impl Opened {
    /// Its name in the grant.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.bucket.name
    }

    /// The values of these keys, in order. Dropping the future stops it.
    ///
    /// # Errors
    /// Names the bucket, and the bound that was passed; unavailable when there is no answer within `bound`.
    pub async fn read(&self, keys: &[String], bound: Duration) -> Result<Values, BucketError> {
        self.named(check_count(keys.len()).and_then(|()| keys.iter().try_for_each(|key| check_key(key))))?;
        self.within(bound, self.place.read(&self.bucket, keys)).await
    }

    /// A page of keys from after this cursor on.
    ///
    /// # Errors
    /// As [`Opened::read`].
    pub async fn list(&self, after: u64, bound: Duration) -> Result<Page, BucketError> {
        self.within(bound, self.place.list(&self.bucket, after)).await
    }

    /// Makes a change. It runs in a task of its own: when this future is dropped, or `bound` has passed, it is finished all the same
    /// (sandbox.md §3), for else nobody would know whether it was made.
    ///
    /// # Errors
    /// As [`Opened::read`].
    pub async fn write(self: &Arc<Self>, write: Write, bound: Duration) -> Result<Written, BucketError> {
        self.named(check_write(&write))?;
        let deadline = deadline(bound);
        let taken = timeout_at(deadline, Arc::clone(&self.under_way).acquire_many_owned(kib(&write))).await;
        let Ok(Ok(room)) = taken else {
            return self.named(Err(BucketError::Unavailable("too many writes are under way".to_owned())));
        };
        let this = Arc::clone(self);
        let task = self.runtime.spawn(async move {
            let _room = room;
            this.within(WRITE_MAX, this.place.write(&this.bucket, write)).await
        });
        match timeout_at(deadline, task).await {
            Ok(Ok(written)) => written,
            Ok(Err(error)) => self.named(Err(BucketError::Unavailable(format!("the write ended without a result ({error})")))),
            Err(_) => self.named(Err(late(bound, "; the write is finished without this call"))),
        }
    }

    async fn within<T>(&self, bound: Duration, call: impl Future<Output = Result<T, BucketError>>) -> Result<T, BucketError> {
        let answer = timeout_at(deadline(bound), call).await;
        self.named(answer.unwrap_or_else(|_| Err(late(bound, ""))))
    }

    fn named<T>(&self, result: Result<T, BucketError>) -> Result<T, BucketError> {
        result.map_err(|error| {
            let text = format!("bucket `{}`: {error}", self.bucket.name);
            match error {
                BucketError::Unavailable(_) => BucketError::Unavailable(text),
                BucketError::Refused(_) => BucketError::Refused(text),
            }
        })
    }
}

fn deadline(bound: Duration) -> Instant {
    // Far ahead rather than never: a bound that does not fit the clock is one that nobody reaches.
    let now = Instant::now();
    now.checked_add(bound).unwrap_or(now + WRITE_MAX)
}

fn late(bound: Duration, then: &str) -> BucketError {
    BucketError::Unavailable(format!("no answer within {} ms{then}", bound.as_millis()))
}

/// What a write holds while it is under way.
fn kib(write: &Write) -> u32 {
    let entry = |key: &String, value: Option<&Vec<u8>>| key.len() + value.map_or(0, Vec::len);
    let bytes: usize = match write {
        Write::Put(entries) => entries.iter().map(|(key, value)| entry(key, value.as_ref())).sum(),
        Write::Increment { key, .. } => key.len(),
        Write::Swap { key, expected, value } => entry(key, Some(value)) + expected.as_ref().map_or(0, Vec::len),
    };
    u32::try_from(bytes.div_ceil(1024).clamp(WRITE_KIB, super::places::UNDER_WAY_KIB)).unwrap_or(u32::MAX)
}

fn refused<T>(text: String) -> Result<T, BucketError> {
    Err(BucketError::Refused(text))
}

fn check_count(keys: usize) -> Result<(), BucketError> {
    if keys > BATCH_MAX { refused(format!("{keys} keys are more than one call takes ({BATCH_MAX})")) } else { Ok(()) }
}

fn check_key(key: &str) -> Result<(), BucketError> {
    match key.len() {
        0 => refused("the key is empty".to_owned()),
        1..=KEY_MAX => Ok(()),
        bytes => refused(format!("a key of {bytes} bytes is longer than keys may be ({KEY_MAX})")),
    }
}

fn check_value(key: &str, value: &[u8]) -> Result<(), BucketError> {
    let bytes = value.len();
    if bytes > VALUE_MAX {
        return refused(format!(
            "the value of key `{}` is {bytes} bytes, more than a value may have ({VALUE_MAX})",
            key.escape_debug()
        ));
    }
    Ok(())
}

fn check_write(write: &Write) -> Result<(), BucketError> {
    match write {
        Write::Put(entries) => {
            check_count(entries.len())?;
            entries.iter().try_for_each(|(key, value)| {
                check_key(key)?;
                value.as_ref().map_or(Ok(()), |value| check_value(key, value))
            })
        }
        Write::Increment { key, .. } => check_key(key),
        Write::Swap { key, value, .. } => {
            check_key(key)?;
            check_value(key, value)
        }
    }
}

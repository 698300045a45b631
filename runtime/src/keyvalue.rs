//! Buckets: what handlers keep under keys (`wasi:keyvalue`), wherever it is. This page is the contract and the bounds; where buckets are:
//! `store/buckets.rs` (in the store), `keyvalue/redis.rs` (on a server of their own), `keyvalue/overlay.rs` (in memory).
//!
//! A write is one change of one bucket, all of it or nothing, and atomic over the processes that share the bucket. Keys are listed in the
//! order in which they came: a cursor is the number of the last key of a page, so that it stays good whatever is deleted meanwhile.
//!
//! Considered and left out: listing by the alphabet. One of the two public drafts has numbers as cursors, and a place among texts is no
//! number that lasts.

mod granted;
mod overlay;
mod places;
pub(crate) mod plan;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::granted::{Granted, Opened};
pub use self::overlay::Overlay;
pub use self::places::Places;
use crate::queue::BoxFuture;

/// Longest key, in bytes: identities and paths are far shorter, and a page of keys stays small.
pub const KEY_MAX: usize = 1024;
/// Largest value, in bytes: as large as an event may be by default, because events are what is gathered.
pub const VALUE_MAX: usize = 1 << 20;
/// Most keys of one call, in a batch and in a page of a listing: one transaction, or one script that holds a server up for a millisecond
/// or two.
pub const BATCH_MAX: usize = 1_000;
/// Most bytes of values that one call answers with: they are in the host's memory until the guest has taken them.
pub const ANSWER_MAX: usize = 4 << 20;
/// Most keys of one bucket: what its index takes in memory on a server is bounded too.
pub const KEYS_MAX: u64 = 1_000_000;
/// What an entry counts for beside its key and value, in bytes: small entries cost a store more than their texts.
pub const ENTRY_BYTES: u64 = 64;
/// The default of a grant's `max-size`, in bytes: a million small entries.
pub const BUCKET_BYTES: u64 = 64 << 20;
/// The largest `max-size`, in bytes: beyond it a database is what is wanted.
pub const BUCKET_BYTES_MAX: u64 = 16 << 30;

/// Values of several keys, in their order; none where there is none.
pub type Values = Vec<Option<Vec<u8>>>;

/// Which bucket is meant, and how much it may hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// Its name in the grant, for messages.
    pub name: String,
    /// The handler whose own it is; none: it is of all handlers that name it at the same URL.
    pub owner: Option<String>,
    /// Most bytes that it holds: keys, values and [`ENTRY_BYTES`] each.
    pub max_bytes: u64,
}

impl Bucket {
    /// What tells it from every other bucket of the same place: `HANDLER/NAME`, or `NAME` where handlers share it. Names have no `/`.
    #[must_use]
    pub fn path(&self) -> String {
        match &self.owner {
            Some(owner) => format!("{owner}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// One change of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets values, or removes keys (none). Of a key that is there twice the last one counts.
    Put(Vec<(String, Option<Vec<u8>>)>),
    /// Adds to a number, which is 0 where there is none: an `i64` as decimal text.
    Increment {
        /// The key.
        key: String,
        /// What is added.
        delta: i64,
    },
    /// Sets a value if the one that is there is still this one.
    Swap {
        /// The key.
        key: String,
        /// What has to be there; none: nothing.
        expected: Option<Vec<u8>>,
        /// What is set.
        value: Vec<u8>,
    },
}

/// What a write has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// As asked.
    Done,
    /// The number that is there now.
    Number(i64),
    /// Nothing: this is there instead of what was expected.
    Stale(Option<Vec<u8>>),
}

/// Some keys of a bucket, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// At most [`BATCH_MAX`]; may be empty although there are more.
    pub keys: Vec<String>,
    /// Where the next page begins; none: this is the last one.
    pub next: Option<u64>,
}

/// How much a bucket holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values, and [`ENTRY_BYTES`] each.
    pub bytes: u64,
}

/// Why a call of a bucket came to nothing. The text fits after "bucket `NAME`: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// The place is away, full or broken: an outside failure, to be tried again. Whether a write took effect is then not known.
    #[error("{0}")]
    Unavailable(String),
    /// It would pass a bound, which is named with its value, or it does not fit what is there.
    #[error("{0}")]
    Refused(String),
}

/// A place where buckets are. Called concurrently, by every run of every handler.
///
/// Keys and values are within their bounds (`granted.rs` has looked), and a batch has at most [`BATCH_MAX`] of them.
pub trait Buckets: fmt::Debug + Send + Sync {
    /// The values of these keys, in order; none where there is none. Dropping the future stops it.
    ///
    /// # Errors
    /// Refused when the values are more than [`ANSWER_MAX`] together.
    fn read<'a>(&'a self, bucket: &'a Bucket, keys: &'a [String]) -> BoxFuture<'a, Result<Values, BucketError>>;

    /// Makes a change, and answers once it is as durable as the place makes it. A future that is dropped leaves it open whether it was
    /// made.
    ///
    /// # Errors
    /// Refused when the bucket would grow beyond its bounds, or a number does not fit; then nothing was changed.
    fn write<'a>(&'a self, bucket: &'a Bucket, write: Write) -> BoxFuture<'a, Result<Written, BucketError>>;

    /// A page of keys, from after this cursor on; 0 begins. What is there all the while is listed once; what comes meanwhile stands last.
    ///
    /// # Errors
    /// When the place is away.
    fn list<'a>(&'a self, bucket: &'a Bucket, after: u64) -> BoxFuture<'a, Result<Page, BucketError>>;

    /// How much the bucket holds.
    ///
    /// # Errors
    /// When the place is away.
    fn size<'a>(&'a self, bucket: &'a Bucket) -> BoxFuture<'a, Result<Size, BucketError>>;
}

/// The values of one call are too many bytes.
pub(crate) fn too_much() -> BucketError {
    BucketError::Refused(format!("the values are more than {ANSWER_MAX} bytes together, the most of one call (ask for fewer)"))
}

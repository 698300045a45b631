//! What a handler keeps from one event to another, in buckets that `weir.toml` grants:
//!
//! ```toml
//! [handler.NAME.grants]
//! keyvalue = [{ bucket = "digest" }]
//! ```
//!
//! ```
//! use weir_sdk::prelude::*;
//!
//! fn gather(event: Event<String>) -> Result {
//!     let digest = keyvalue::open("digest")?;
//!     digest.set(&format!("ann/{}", event.id), &event.data)?;
//!     let seen = digest.increment("seen", 1)?;
//!     log::info!("{seen} so far");
//!     Ok(())
//! }
//! # use weir_sdk::testing;
//! # let mut host = testing::Host::new();
//! # assert_eq!(host.run(gather, testing::event("answered", "yes")).result, Ok(()));
//! # assert_eq!(host.value("digest", "ann/test-1").as_deref(), Some(&b"yes"[..]));
//! # assert_eq!(host.keys("digest"), ["ann/test-1", "seen"]);
//! ```
//!
//! **A write happens when it is called**, whatever the handler answers afterwards, and an event may come again: write so that a second
//! time does no harm, under a key that is made of the event's id, or with [`update`](Bucket::update).
//!
//! A bucket without `url` is the handler's own. It is kept where `[server] store` is: over restarts, and shared by the processes that
//! share a store. Keys have at most 1,024 bytes, values at most 1 MiB, a call at most 1,000 keys, a bucket what its grant says. One event
//! may name 10,000 keys and move 64 MiB in all; the call that would pass this ends the run.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{OrReject as _, Result as Answer};

/// Most keys of one call.
const BATCH_MAX: usize = 1_000;

/// Why a call came to nothing. `?` makes the first a reject and the second a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The bucket is not granted: names it.
    Denied(String),
    /// The store is away, or a bound was passed: names it.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Denied(text) | Error::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// The bucket of this name.
///
/// # Errors
/// When it is not granted.
pub fn open(name: &str) -> Result<Bucket, Error> {
    Ok(Bucket { host: crate::host::keyvalue::open(name)? })
}

/// A bucket that is granted.
#[derive(Debug)]
pub struct Bucket {
    host: crate::host::keyvalue::Bucket,
}

impl Bucket {
    /// The value of a key, if there is one.
    ///
    /// # Errors
    /// When the store is away.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.host.get(key)
    }

    /// The value of a key as JSON.
    ///
    /// # Errors
    /// As [`get`](Bucket::get); a reject when what is there is not such JSON.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Answer<Option<T>> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        serde_json::from_slice(&value).map(Some).or_reject(format!("the value of key `{}`", key.escape_debug()))
    }

    /// Sets a value; what was there is replaced.
    ///
    /// # Errors
    /// When the bucket is full, key or value are too large, or the store is away.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.host.set(key, value.as_ref())
    }

    /// Sets a value as JSON.
    ///
    /// # Errors
    /// As [`set`](Bucket::set); a reject when it can't be JSON.
    pub fn set_json(&self, key: &str, value: &(impl Serialize + ?Sized)) -> Answer {
        Ok(self.set(key, serde_json::to_vec(value)?)?)
    }

    /// Removes a key; nothing happens where it is not there.
    ///
    /// # Errors
    /// When the store is away.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.host.delete(key)
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// When the store is away.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.host.exists(key)
    }

    /// All keys, in the order in which they came, a page of 1,000 at a time. A key that is there all the while comes once, whatever is
    /// removed meanwhile.
    ///
    /// ```
    /// # use weir_sdk::{prelude::*, testing};
    /// # fn flush(_: Event<()>) -> Result {
    /// # let digest = keyvalue::open("digest")?;
    /// let mine: Vec<String> = digest.keys().filter(|key| key.as_ref().is_ok_and(|key| key.starts_with("ann/"))).collect::<Result<_, _>>()?;
    /// # Ok(()) }
    /// # assert!(testing::Host::new().run(flush, testing::event("x", ())).result.is_ok());
    /// ```
    pub fn keys(&self) -> Keys<'_> {
        Keys { bucket: self, page: Vec::new().into_iter(), next: Some(None) }
    }

    /// Adds to a number, which begins at 0, and answers the new one. Atomic: of two handlers that count at once, each counts.
    ///
    /// # Errors
    /// As [`set`](Bucket::set), and when what is there is no number.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        self.host.increment(key, delta)
    }

    /// Sets what `change` makes of the value that is there, and answers it. Atomic: when somebody else was faster, `change` is asked again
    /// with what is there then.
    ///
    /// # Errors
    /// As [`set`](Bucket::set), and when others were faster a hundred times.
    pub fn update(&self, key: &str, mut change: impl FnMut(Option<&[u8]>) -> Vec<u8>) -> Result<Vec<u8>, Error> {
        self.host.update(key, &mut change)
    }

    /// Sets a value if the one that is there is still `before` (none: nothing is there), and answers whether it did. Atomic.
    ///
    /// # Errors
    /// As [`set`](Bucket::set).
    pub fn swap(&self, key: &str, before: Option<&[u8]>, value: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.host.swap(key, before, value.as_ref())
    }

    /// The values of these keys, in order, 1,000 at a time.
    ///
    /// # Errors
    /// As [`get`](Bucket::get), and when 1,000 of them are more than 4 MiB.
    pub fn get_many(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut values = Vec::with_capacity(keys.len());
        for part in keys.chunks(BATCH_MAX) {
            let part: Vec<String> = part.iter().map(|key| key.as_ref().to_owned()).collect();
            values.extend(self.host.get_many(&part)?);
        }
        Ok(values)
    }

    /// Sets these values, 1,000 at a time; those of one call all or none.
    ///
    /// # Errors
    /// As [`set`](Bucket::set).
    pub fn set_many<K: Into<String>, V: Into<Vec<u8>>>(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<(), Error> {
        let entries: Vec<(String, Vec<u8>)> = entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        entries.chunks(BATCH_MAX).try_for_each(|part| self.host.set_many(part))
    }

    /// Removes these keys, 1,000 at a time; those of one call all or none.
    ///
    /// # Errors
    /// When the store is away.
    pub fn delete_many(&self, keys: &[impl AsRef<str>]) -> Result<(), Error> {
        keys.chunks(BATCH_MAX).try_for_each(|part| {
            let part: Vec<String> = part.iter().map(|key| key.as_ref().to_owned()).collect();
            self.host.delete_many(&part)
        })
    }
}

/// The keys of a bucket: see [`Bucket::keys`]. Ends after an error.
#[derive(Debug)]
pub struct Keys<'b> {
    bucket: &'b Bucket,
    page: std::vec::IntoIter<String>,
    /// The cursor of the next page, which is none at the beginning; none: there is no next page.
    next: Option<Option<String>>,
}

impl Iterator for Keys<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.next() {
                return Some(Ok(key));
            }
            match self.bucket.host.list(self.next.take()?.as_deref()) {
                Ok((keys, cursor)) => {
                    self.page = keys.into_iter();
                    self.next = cursor.map(Some);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Host};
    use crate::{Event, Failure, reject, retry};

    #[test]
    fn what_is_kept_is_there_in_the_next_run() {
        let mut host = Host::new().value_of("b", "old", "1");
        let run = host.run(
            |_: Event<()>| {
                let bucket = open("b")?;
                assert_eq!(bucket.get("old")?.as_deref(), Some(&b"1"[..]));
                assert!(bucket.exists("old")? && !bucket.exists("new")?);
                bucket.set_json("new", &[1, 2])?;
                bucket.set_many([("x", "1"), ("y", "2"), ("z", "3")])?;
                bucket.delete_many(&["x", "none"])?;
                bucket.delete("old")?;
                assert_eq!(bucket.increment("n", 5)?, 5);
                assert!(
                    !bucket.swap("n", None, "6")?
                        && !bucket.swap("none", Some(b"5"), "6")?
                        && bucket.swap("n", Some(b"5"), "5")?
                );
                assert_eq!(bucket.update("n", |now| [now.unwrap_or_default(), b"0"].concat())?, b"50");
                Err(retry("later"))
            },
            testing::event("x", ()),
        );
        assert_eq!(run.result, Err(retry("later")), "{run:?}");
        assert_eq!(host.keys("b"), ["new", "y", "z", "n"]);
        let run = host.run(
            |_: Event<()>| {
                let bucket = open("b")?;
                assert_eq!(bucket.get_json::<Vec<u8>>("new")?, Some(vec![1, 2]));
                assert_eq!(bucket.get_json::<u8>("none")?, None);
                assert_eq!(bucket.keys().collect::<Result<Vec<_>, _>>()?, ["new", "y", "z", "n"]);
                assert_eq!(bucket.get_many(&["z", "none"])?, [Some(b"3".to_vec()), None]);
                assert_eq!(bucket.increment("n", -8)?, 42);
                bucket.get_json::<u8>("new").map(|_| ())
            },
            testing::event("x", ()),
        );
        let Err(Failure::Reject { reason }) = run.result else { panic!("{run:?}") };
        assert!(reason.starts_with("the value of key `new`: invalid type"), "{reason}");
        assert!(host.value("another", "n").is_none());
    }

    #[test]
    fn many_keys_come_in_pages() {
        let all: Vec<String> = (0..2_500).map(|number| number.to_string()).collect();
        let run = Host::new().run(
            move |_: Event<()>| {
                let bucket = open("b")?;
                bucket.set_many(all.iter().map(|key| (key.as_str(), "v")))?;
                let mut found = Vec::new();
                for key in bucket.keys() {
                    let key = key?;
                    bucket.delete(&key)?;
                    found.push(key);
                }
                assert_eq!(found, all);
                assert_eq!(bucket.keys().count(), 0);
                Ok::<(), Failure>(())
            },
            testing::event("x", ()),
        );
        assert_eq!(run.result, Ok(()));
    }

    #[test]
    fn errors_are_as_on_the_server() {
        let run = |host: &mut Host, call: fn(&Bucket) -> Result<(), Error>| {
            host.run(move |_: Event<()>| Ok::<(), Failure>(call(&open("b")?)?), testing::event("x", ())).result
        };
        let mut host = Host::new().value_of("b", "text", "x");
        for (call, expected) in [
            ((|bucket| bucket.set("", "")) as fn(&Bucket) -> Result<(), Error>, "bucket `b`: the key is empty"),
            (|bucket| bucket.set(&"k".repeat(1_025), ""), "bucket `b`: a key of 1025 bytes"),
            (|bucket| bucket.set("k", vec![0; (1 << 20) + 1]), "bucket `b`: the value of key `k` is 1048577 bytes"),
            (|bucket| bucket.increment("text", 1).map(|_| ()), "bucket `b`: the value of key `text` is no number"),
        ] {
            let Err(Failure::Retry { reason, .. }) = run(&mut host, call) else { panic!("{expected}") };
            assert!(reason.starts_with(expected), "{reason}, expected {expected}");
        }
        let mut host = Host::new().keyvalue_error(Error::Denied("bucket `b` is not granted".to_owned()));
        assert_eq!(run(&mut host, |bucket| bucket.delete("k")), Err(reject("bucket `b` is not granted")));
        let mut host = Host::new().keyvalue_error(Error::Other("away".to_owned()));
        assert_eq!(run(&mut host, |bucket| bucket.delete("k")), Err(retry("away")));
        host.keyvalue_works();
        assert_eq!(run(&mut host, |bucket| bucket.delete("k")), Ok(()));
        let probed = Host::new().self_test(|| {
            let bucket = open("b")?;
            assert_eq!(bucket.get("k")?, None);
            Ok::<(), Failure>(bucket.set("k", "v")?)
        });
        assert_eq!(probed.result, Err(retry("bucket `b`: nothing is written while a new version is probed")));
        assert!(matches!(open("b"), Err(Error::Denied(_))), "outside of a run");
    }
}

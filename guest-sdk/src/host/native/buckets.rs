//! Buckets in memory, for handlers that run in `cargo test`.

use std::collections::BTreeMap;

use super::with_state;
use crate::keyvalue::Error;

/// As on the server.
const KEY_MAX: usize = 1_024;
const VALUE_MAX: usize = 1 << 20;
const PAGE_MAX: usize = 1_000;

/// The entries of a bucket in the order in which they came, each with its number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    came: u64,
    entries: Vec<(u64, String, Vec<u8>)>,
}

/// By name.
pub(crate) type Buckets = BTreeMap<String, Entries>;

impl Entries {
    pub(crate) fn get(&self, key: &str) -> Option<&Vec<u8>> {
        self.entries.iter().find(|(_, known, _)| known == key).map(|(_, _, value)| value)
    }

    pub(crate) fn set(&mut self, key: &str, value: &[u8]) {
        match self.entries.iter_mut().find(|(_, known, _)| known == key) {
            Some((_, _, before)) => *before = value.to_vec(),
            None => {
                self.came += 1;
                self.entries.push((self.came, key.to_owned(), value.to_vec()));
            }
        }
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.entries.iter().map(|(_, key, _)| key.clone()).collect()
    }
}

/// A bucket of the host that runs on this thread.
#[derive(Debug)]
pub(crate) struct Bucket(String);

pub(crate) fn open(name: &str) -> Result<Bucket, Error> {
    with_state(|state| match &state.keyvalue_error {
        Some(error @ Error::Denied(_)) => Err(error.clone()),
        _ => Ok(Bucket(name.to_owned())),
    })
    .unwrap_or_else(|| Err(Error::Denied("no bucket outside of `weir_sdk::testing::Host::run`".to_owned())))
}

impl Bucket {
    fn other<T>(&self, text: impl std::fmt::Display) -> Result<T, Error> {
        Err(Error::Other(format!("bucket `{}`: {text}", self.0)))
    }

    fn read<T>(&self, read: impl FnOnce(&Entries) -> T) -> Result<T, Error> {
        let answer = with_state(|state| match &state.keyvalue_error {
            Some(error) => Err(error.clone()),
            None => Ok(read(state.buckets.entry(self.0.clone()).or_default())),
        });
        answer.unwrap_or_else(|| self.other("it can't be used outside of `weir_sdk::testing::Host::run`"))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Entries) -> T) -> Result<T, Error> {
        self.read(|_| ())?;
        let answer = with_state(|state| match state.probed {
            true => self.other("nothing is written while a new version is probed"),
            false => Ok(write(state.buckets.entry(self.0.clone()).or_default())),
        });
        answer.unwrap_or_else(|| self.other("it can't be used outside of `weir_sdk::testing::Host::run`"))
    }

    fn check(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        match key.len() {
            0 => self.other("the key is empty"),
            1..=KEY_MAX if value.len() <= VALUE_MAX => Ok(()),
            1..=KEY_MAX => self.other(format!(
                "the value of key `{}` is {} bytes, more than a value may have ({VALUE_MAX})",
                key.escape_debug(),
                value.len()
            )),
            bytes => self.other(format!("a key of {bytes} bytes is longer than keys may be ({KEY_MAX})")),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.check(key, &[])?;
        self.read(|entries| entries.get(key).cloned())
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.check(key, value)?;
        self.write(|entries| entries.set(key, value))
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), Error> {
        self.check(key, &[])?;
        self.write(|entries| entries.entries.retain(|(_, known, _)| known != key))
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.get(key)?.is_some())
    }

    pub(crate) fn list(&self, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>), Error> {
        let Ok(after) = cursor.unwrap_or("0").parse::<u64>() else { return self.other("the cursor is none of its own") };
        self.read(|entries| {
            let mut rest = entries.entries.iter().filter(|(number, ..)| *number > after);
            let page: Vec<_> = rest.by_ref().take(PAGE_MAX).collect();
            let cursor = rest.next().and(page.last()).map(|(number, ..)| number.to_string());
            (page.into_iter().map(|(_, key, _)| key.clone()).collect(), cursor)
        })
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        let number = match self.get(key)? {
            None => Some(0),
            Some(value) => String::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
        };
        let Some(number) = number else {
            return self.other(format!("the value of key `{}` is no number that can be incremented", key.escape_debug()));
        };
        let Some(sum) = number.checked_add(delta) else {
            return self.other(format!("the number at key `{}` would pass {} or {}", key.escape_debug(), i64::MIN, i64::MAX));
        };
        self.set(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }

    pub(crate) fn update(&self, key: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Vec<u8>) -> Result<Vec<u8>, Error> {
        let value = change(self.get(key)?.as_deref());
        self.set(key, &value)?;
        Ok(value)
    }

    pub(crate) fn swap(&self, key: &str, before: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
        let same = self.get(key)?.as_deref() == before;
        if same {
            self.set(key, value)?;
        }
        Ok(same)
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    pub(crate) fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Error> {
        entries.iter().try_for_each(|(key, value)| self.check(key, value))?;
        entries.iter().try_for_each(|(key, value)| self.set(key, value))
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        keys.iter().try_for_each(|key| self.delete(key))
    }
}

//! The bindings to `wasi:keyvalue`, in a world of their own. Compiled for wasm only.

use crate::keyvalue::Error;

mod bindings {
    wit_bindgen::generate!({ path: "wit/wasi-keyvalue-0.2.0-draft2", world: "wasi:keyvalue/imports" });
}

use bindings::wasi::keyvalue::{atomics, batch, store};

/// How often others may be faster in one update.
const SWAPS_MAX: u32 = 100;

/// A bucket, and its name for errors.
#[derive(Debug)]
pub(crate) struct Bucket {
    bucket: store::Bucket,
    name: String,
}

pub(crate) fn open(name: &str) -> Result<Bucket, Error> {
    let bucket = store::open(name).map_err(|failed| error(name, failed))?;
    Ok(Bucket { bucket, name: name.to_owned() })
}

fn error(name: &str, error: store::Error) -> Error {
    match error {
        store::Error::NoSuchStore | store::Error::AccessDenied => {
            Error::Denied(format!("bucket `{}` is not granted", name.escape_debug()))
        }
        store::Error::Other(text) => Error::Other(text),
    }
}

impl Bucket {
    fn error(&self, failed: store::Error) -> Error {
        error(&self.name, failed)
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.bucket.get(key).map_err(|failed| self.error(failed))
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.bucket.set(key, value).map_err(|failed| self.error(failed))
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), Error> {
        self.bucket.delete(key).map_err(|failed| self.error(failed))
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, Error> {
        self.bucket.exists(key).map_err(|failed| self.error(failed))
    }

    pub(crate) fn list(&self, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>), Error> {
        let page = self.bucket.list_keys(cursor).map_err(|failed| self.error(failed))?;
        Ok((page.keys, page.cursor))
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        atomics::increment(&self.bucket, key, delta).map_err(|failed| self.error(failed))
    }

    pub(crate) fn update(&self, key: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut cas = atomics::Cas::new(&self.bucket, key).map_err(|failed| self.error(failed))?;
        for _ in 0..SWAPS_MAX {
            let value = change(cas.current().map_err(|failed| self.error(failed))?.as_deref());
            match atomics::swap(cas, &value) {
                Ok(()) => return Ok(value),
                Err(atomics::CasError::CasFailed(newer)) => cas = newer,
                Err(atomics::CasError::StoreError(failed)) => return Err(self.error(failed)),
            }
        }
        Err(Error::Other(format!("bucket `{}`: key `{}` was changed by others {SWAPS_MAX} times", self.name, key.escape_debug())))
    }

    pub(crate) fn swap(&self, key: &str, before: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
        let cas = atomics::Cas::new(&self.bucket, key).map_err(|failed| self.error(failed))?;
        if cas.current().map_err(|failed| self.error(failed))?.as_deref() != before {
            return Ok(false);
        }
        match atomics::swap(cas, value) {
            Ok(()) => Ok(true),
            Err(atomics::CasError::CasFailed(_)) => Ok(false),
            Err(atomics::CasError::StoreError(failed)) => Err(self.error(failed)),
        }
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let values = batch::get_many(&self.bucket, keys).map_err(|failed| self.error(failed))?;
        Ok(values.into_iter().map(|entry| entry.map(|(_, value)| value)).collect())
    }

    pub(crate) fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Error> {
        batch::set_many(&self.bucket, entries).map_err(|failed| self.error(failed))
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        batch::delete_many(&self.bucket, keys).map_err(|failed| self.error(failed))
    }
}

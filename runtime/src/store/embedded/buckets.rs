//! Buckets in the embedded store: tables, and what one commit does to them. What a write comes to: `keyvalue/plan.rs`.

use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::tables::{Error, Write};
use super::{Embedded, blocking};
use crate::keyvalue::plan::{Plan, plan};
use crate::keyvalue::{ANSWER_MAX, BATCH_MAX, Bucket, BucketError, Buckets, Page, Size, Values, Written, too_much};
use crate::queue::BoxFuture;

/// Bucket and key → the number with which the key came, and its value.
const VALUES: TableDefinition<(&str, &str), (u64, &[u8])> = TableDefinition::new("bucket-values");
/// Bucket and number → key.
const KEYS: TableDefinition<(&str, u64), &str> = TableDefinition::new("bucket-keys");
/// Bucket → the number of the key that came last, how many keys there are, their bytes.
const COUNTS: TableDefinition<&str, (u64, u64, u64)> = TableDefinition::new("bucket-counts");

/// Makes the tables.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), Error> {
    transaction.open_table(VALUES)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(COUNTS)?;
    Ok(())
}

/// Makes one change, or says why not and leaves everything as it was.
pub(super) fn write(
    transaction: &WriteTransaction,
    bucket: &Bucket,
    write: &crate::keyvalue::Write,
) -> Result<Result<Written, BucketError>, Error> {
    let path = bucket.path();
    let mut counts = transaction.open_table(COUNTS)?;
    let mut values = transaction.open_table(VALUES)?;
    let mut keys = transaction.open_table(KEYS)?;
    let (mut last, count, bytes) = counts.get(path.as_str())?.map(|row| row.value()).unwrap_or_default();
    let current = |key: &str| -> Result<_, Error> { Ok(values.get((path.as_str(), key))?.map(|row| row.value().1.to_vec())) };
    let Plan { changes, written, size } = match plan(bucket, Size { keys: count, bytes }, write, current)? {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(error)),
    };
    for (key, value) in &changes {
        change(&mut values, &mut keys, (&path, key), (value.as_deref(), &mut last))?;
    }
    if !changes.is_empty() {
        counts.insert(path.as_str(), (last, size.keys, size.bytes))?;
    }
    Ok(Ok(written))
}

fn change(
    values: &mut Table<(&str, &str), (u64, &[u8])>,
    keys: &mut Table<(&str, u64), &str>,
    (path, key): (&str, &str),
    (value, last): (Option<&[u8]>, &mut u64),
) -> Result<(), Error> {
    let number = values.get((path, key))?.map(|row| row.value().0);
    match (number, value) {
        (None, None) => {}
        (Some(number), None) => {
            values.remove((path, key))?;
            keys.remove((path, number))?;
        }
        (Some(number), Some(value)) => {
            values.insert((path, key), (number, value))?;
        }
        (None, Some(value)) => {
            *last += 1;
            values.insert((path, key), (*last, value))?;
            keys.insert((path, *last), key)?;
        }
    }
    Ok(())
}

fn read(transaction: &ReadTransaction, path: &str, keys: &[String]) -> Result<Result<Values, BucketError>, Error> {
    let table = transaction.open_table(VALUES)?;
    let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
    for key in keys {
        let value = table.get((path, key.as_str()))?;
        bytes += value.as_ref().map_or(0, |row| row.value().1.len());
        if bytes > ANSWER_MAX {
            return Ok(Err(too_much()));
        }
        values.push(value.map(|row| row.value().1.to_vec()));
    }
    Ok(Ok(values))
}

fn list(transaction: &ReadTransaction, path: &str, after: u64) -> Result<Page, Error> {
    let table = transaction.open_table(KEYS)?;
    let mut page = Page::default();
    let mut last = after;
    for row in table.range((path, after.saturating_add(1))..=(path, u64::MAX))? {
        let (number, key) = row?;
        if page.keys.len() == BATCH_MAX {
            page.next = Some(last);
            break;
        }
        last = number.value().1;
        page.keys.push(key.value().to_owned());
    }
    Ok(page)
}

fn size(transaction: &ReadTransaction, path: &str) -> Result<Size, Error> {
    let row = transaction.open_table(COUNTS)?.get(path)?;
    Ok(row.map_or_else(Size::default, |row| Size { keys: row.value().1, bytes: row.value().2 }))
}

/// Reads are made on threads for blocking work: a value is large, and it may be on disk.
impl Buckets for Embedded {
    fn read<'a>(&'a self, bucket: &'a Bucket, keys: &'a [String]) -> BoxFuture<'a, Result<Values, BucketError>> {
        let (shared, path, keys) = (Arc::clone(&self.shared), bucket.path(), keys.to_vec());
        Box::pin(async move { blocking(move || shared.read(|transaction| read(transaction, &path, &keys))).await? })
    }

    fn write<'a>(&'a self, bucket: &'a Bucket, write: crate::keyvalue::Write) -> BoxFuture<'a, Result<Written, BucketError>> {
        let write = Write::Bucket { bucket: bucket.clone(), write };
        Box::pin(async move { self.writer.write_bucket(write).await? })
    }

    fn list<'a>(&'a self, bucket: &'a Bucket, after: u64) -> BoxFuture<'a, Result<Page, BucketError>> {
        let (shared, path) = (Arc::clone(&self.shared), bucket.path());
        Box::pin(async move { Ok(blocking(move || shared.read(|transaction| list(transaction, &path, after))).await?) })
    }

    fn size<'a>(&'a self, bucket: &'a Bucket) -> BoxFuture<'a, Result<Size, BucketError>> {
        let (shared, path) = (Arc::clone(&self.shared), bucket.path());
        Box::pin(async move { Ok(blocking(move || shared.read(|transaction| size(transaction, &path))).await?) })
    }
}

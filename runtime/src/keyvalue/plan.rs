//! What a write comes to, as a pure function of what is there: for every place that does not do it on a server.

use std::collections::BTreeMap;

use super::{Bucket, BucketError, ENTRY_BYTES, KEYS_MAX, Size, Write, Written};

/// What is to be changed, and what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Of each key the value that it gets; none: it is removed.
    pub(crate) changes: BTreeMap<String, Option<Vec<u8>>>,
    /// The answer.
    pub(crate) written: Written,
    /// How much the bucket holds afterwards.
    pub(crate) size: Size,
}

/// Works a write out; `current` reads one value. The outer error is that of reading.
pub(crate) fn plan<E>(
    bucket: &Bucket,
    size: Size,
    write: &Write,
    mut current: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
) -> Result<Result<Plan, BucketError>, E> {
    let (changes, written) = match write {
        Write::Put(entries) => (entries.iter().cloned().collect(), Written::Done),
        Write::Increment { key, delta } => match added(current(key)?.as_deref(), *delta) {
            Ok(sum) => (BTreeMap::from([(key.clone(), Some(sum.to_string().into_bytes()))]), Written::Number(sum)),
            Err(why) => return Ok(Err(no_sum(key, why))),
        },
        Write::Swap { key, expected, value } => {
            let found = current(key)?;
            match found == *expected {
                true => (BTreeMap::from([(key.clone(), Some(value.clone()))]), Written::Done),
                false => (BTreeMap::new(), Written::Stale(found)),
            }
        }
    };
    let mut after = size;
    for (key, value) in &changes {
        if let Some(before) = current(key)? {
            after.keys = after.keys.saturating_sub(1);
            after.bytes = after.bytes.saturating_sub(weight(key, &before));
        }
        if let Some(value) = value {
            after.keys += 1;
            after.bytes += weight(key, value);
        }
    }
    Ok(match room(bucket, size, after) {
        Ok(()) => Ok(Plan { changes, written, size: after }),
        Err(error) => Err(error),
    })
}

/// What an entry counts for.
pub(crate) fn weight(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY_BYTES
}

/// Whether a bucket may become that large. One that is over its bounds already, because they were lowered, may shrink.
fn room(bucket: &Bucket, before: Size, after: Size) -> Result<(), BucketError> {
    let grows_over = |before: u64, after: u64, most: u64| after > most && after > before;
    if grows_over(before.bytes, after.bytes, bucket.max_bytes) || grows_over(before.keys, after.keys, KEYS_MAX) {
        return Err(no_room(bucket, after));
    }
    Ok(())
}

/// A bucket would hold `after`.
pub(crate) fn no_room(bucket: &Bucket, after: Size) -> BucketError {
    BucketError::Refused(match after.keys > KEYS_MAX && after.bytes <= bucket.max_bytes {
        true => format!("is full: a bucket holds at most {KEYS_MAX} keys (delete some)"),
        false => format!(
            "is full: it would hold {} bytes, and `max-size` of its grant is {} (delete keys, or raise it; each key counts \
             {ENTRY_BYTES} bytes more)",
            after.bytes, bucket.max_bytes
        ),
    })
}

/// Why there is no sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSum {
    /// What is there is no number.
    NoNumber,
    /// The sum is beyond what a number can be.
    Beyond,
}

/// For the guest.
pub(crate) fn no_sum(key: &str, why: NoSum) -> BucketError {
    let key = key.escape_debug();
    BucketError::Refused(match why {
        NoSum::NoNumber => format!("the value of key `{key}` is no number that can be incremented (expected decimal digits)"),
        NoSum::Beyond => format!("the number at key `{key}` would pass {} or {}", i64::MIN, i64::MAX),
    })
}

/// Adds to a number as it is kept: decimal text, written as Redis does, so that every place takes the same texts for numbers.
fn added(current: Option<&[u8]>, delta: i64) -> Result<i64, NoSum> {
    let number = match current {
        None => 0,
        Some(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| NoSum::NoNumber)?;
            let number: i64 = text.parse().map_err(|_| NoSum::NoNumber)?;
            if number.to_string() != text {
                return Err(NoSum::NoNumber);
            }
            number
        }
    };
    number.checked_add(delta).ok_or(NoSum::Beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(max_bytes: u64) -> Bucket {
        Bucket { name: "b".to_owned(), owner: None, max_bytes }
    }

    fn planned(max_bytes: u64, there: &[(&str, &str)], write: &Write) -> Result<Plan, BucketError> {
        let size = there.iter().fold(Size::default(), |size, (key, value)| Size {
            keys: size.keys + 1,
            bytes: size.bytes + weight(key, value.as_bytes()),
        });
        let current = |key: &str| -> Result<_, ()> {
            Ok(there.iter().find(|(found, _)| *found == key).map(|(_, value)| value.as_bytes().to_vec()))
        };
        plan(&bucket(max_bytes), size, write, current).unwrap()
    }

    fn put(entries: &[(&str, Option<&str>)]) -> Write {
        Write::Put(entries.iter().map(|(key, value)| ((*key).to_owned(), value.map(Into::into))).collect())
    }

    #[test]
    fn sizes_are_counted_through_every_change() {
        let two = [("a", "1"), ("bb", "22")];
        let all = 2 * ENTRY_BYTES + 6;
        for (write, keys, bytes) in [
            (put(&[("a", Some("1"))]), 2, all),
            (put(&[("a", Some("123"))]), 2, all + 2),
            (put(&[("a", None), ("c", None)]), 1, all - 2 - ENTRY_BYTES),
            (put(&[("c", Some("1")), ("c", Some(""))]), 3, all + 1 + ENTRY_BYTES),
            (put(&[("c", Some("1")), ("c", None)]), 2, all),
            (Write::Increment { key: "a".to_owned(), delta: 9 }, 2, all + 1),
            (Write::Swap { key: "a".to_owned(), expected: None, value: vec![0; 100] }, 2, all),
        ] {
            let plan = planned(10_000, &two, &write).unwrap();
            assert_eq!(plan.size, Size { keys, bytes }, "{write:?}");
        }
    }

    #[test]
    fn a_bucket_does_not_grow_beyond_its_bound_and_may_shrink_above_it() {
        let there = [("a", "1234")];
        let full = ENTRY_BYTES + 5;
        assert!(planned(full, &there, &put(&[("a", Some("5678"))])).is_ok());
        let refused = planned(full, &there, &put(&[("a", Some("12345"))])).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("it would hold {} bytes, and `max-size` of its grant is {full}", full + 1)),
            "{refused}"
        );
        assert!(planned(1, &there, &put(&[("a", Some("123"))])).is_ok(), "the bound was lowered");
        assert!(planned(1, &there, &put(&[("a", None)])).is_ok());
        assert!(planned(1, &there, &put(&[("b", None)])).is_ok());
        let many = Size { keys: KEYS_MAX, bytes: 0 };
        let plan = plan(&bucket(u64::MAX), many, &put(&[("a", Some(""))]), |_| Ok::<_, ()>(None)).unwrap();
        assert!(plan.unwrap_err().to_string().contains("at most 1000000 keys"));
    }

    #[test]
    fn numbers_are_decimal_texts() {
        for (there, delta, expected) in [
            (None, 5, Ok(5)),
            (Some("5"), -7, Ok(-2)),
            (Some("-9223372036854775808"), 0, Ok(i64::MIN)),
            (Some("9223372036854775807"), 1, Err(NoSum::Beyond)),
            (Some("9223372036854775808"), 0, Err(NoSum::NoNumber)),
            (Some("05"), 1, Err(NoSum::NoNumber)),
            (Some("+5"), 1, Err(NoSum::NoNumber)),
            (Some(" 5"), 1, Err(NoSum::NoNumber)),
            (Some(""), 1, Err(NoSum::NoNumber)),
        ] {
            assert_eq!(added(there.map(str::as_bytes), delta), expected, "{there:?}");
        }
        assert_eq!(added(Some(&[0xff]), 1), Err(NoSum::NoNumber));
    }

    #[test]
    fn a_swap_needs_what_was_expected() {
        let swap = |expected: Option<&str>| Write::Swap {
            key: "a".to_owned(),
            expected: expected.map(|text| text.as_bytes().to_vec()),
            value: b"2".to_vec(),
        };
        let plan = planned(1_000, &[("a", "1")], &swap(Some("1"))).unwrap();
        assert_eq!((plan.written, plan.changes.len()), (Written::Done, 1));
        for stale in [None, Some("0")] {
            let plan = planned(1_000, &[("a", "1")], &swap(stale)).unwrap();
            assert_eq!((plan.written, plan.changes.len()), (Written::Stale(Some(b"1".to_vec())), 0));
        }
        assert_eq!(planned(1_000, &[], &swap(None)).unwrap().written, Written::Done);
    }
}

//! What the server answers, taken apart without copying the events. Pure.

use ::redis::Value;

use crate::clock::Timestamp;
use crate::queue::{Position, QueueError, Tries};

/// An entry of the stream, leased to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: Position,
    /// Names and values in their order.
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) tries: Tries,
    /// Whether something of its tries is kept on the server.
    pub(super) kept: bool,
}

impl Entry {
    /// Its bytes.
    pub(super) fn size(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// What a script found for us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Another process reads this group now.
    Lost,
    /// Entries, how many were trimmed away before they had ended, and what else the script says.
    Entries(Vec<Entry>, u64, String),
}

/// The answer of `claim.lua` and its like.
pub(super) fn found(answer: Value) -> Result<Found, QueueError> {
    let mut parts = array(answer).ok_or_else(unexpected)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    if text(next()).as_deref() == Some("lost") {
        return Ok(Found::Lost);
    }
    let entries = array(next()).ok_or_else(unexpected)?.into_iter().map(taken).collect::<Option<Vec<_>>>();
    let vanished = number(&next()).unwrap_or(0);
    Ok(Found::Entries(entries.ok_or_else(unexpected)?, vanished, text(next()).unwrap_or_default()))
}

/// The answer of `XREADGROUP` for one stream: nothing, or entries that were never delivered before.
pub(super) fn read(answer: Value) -> Result<Vec<Entry>, QueueError> {
    let Some(streams) = array(answer) else { return Ok(Vec::new()) };
    let stream = streams.into_iter().next().and_then(array).and_then(|mut stream| stream.pop()).and_then(array);
    let fresh = |entry: Value| {
        let mut parts = array(entry)?.into_iter();
        let position = position(&bytes(parts.next()?)?)?;
        Some(Entry { position, fields: fields(parts.next()?)?, tries: Tries::default(), kept: false })
    };
    stream.ok_or_else(unexpected)?.into_iter().map(fresh).collect::<Option<_>>().ok_or_else(unexpected)
}

/// The answer of `XPENDING` for one consumer: ids and how often each was delivered.
pub(super) fn pending(answer: Value) -> Result<Vec<(Position, u32)>, QueueError> {
    let one = |row: Value| {
        let row = array(row)?;
        let deliveries = row.get(3).and_then(number)?;
        let id = bytes(row.into_iter().next()?)?;
        Some((position(&id)?, u32::try_from(deliveries).unwrap_or(u32::MAX)))
    };
    array(answer).unwrap_or_default().into_iter().map(one).collect::<Option<_>>().ok_or_else(unexpected)
}

/// A score of a sorted set by time, as the server writes it; empty: there is none.
pub(super) fn score(text: &str) -> Option<Timestamp> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds of any date are exact and positive"
    )]
    text.parse::<f64>().ok().map(|score| Timestamp(score.max(0.0) as u64))
}

/// Ids that a script answers.
pub(super) fn positions(ids: &[Vec<u8>]) -> Vec<Position> {
    ids.iter().filter_map(|id| position(id)).collect()
}

/// An id as a number: milliseconds above, the count within one below.
pub(super) fn position(id: &[u8]) -> Option<Position> {
    let (ms, seq) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some(Position(u128::from(ms.parse::<u64>().ok()?) << 64 | u128::from(seq.parse::<u64>().ok()?)))
}

/// The id of a position.
pub(super) fn id(position: Position) -> String {
    // As two numbers of 64 bits: those of 128 are written far more slowly.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    let count = position.0 as u64;
    format!("{}-{count}", millis(position))
}

/// When an entry was added, by the server's clock.
pub(super) fn millis(position: Position) -> u64 {
    u64::try_from(position.0 >> 64).unwrap_or(u64::MAX)
}

/// What is kept of tries beside the number of deliveries: `failed:outside:since`.
pub(super) fn pack(tries: Tries) -> String {
    let since = tries.outside_since.map(|since| since.0.to_string()).unwrap_or_default();
    format!("{}:{}:{since}", tries.failed, tries.outside)
}

/// Tries from the number of those that failed, and what was kept of the others.
pub(super) fn unpack(failed: u32, packed: &str) -> Tries {
    let mut parts = packed.split(':').skip(1);
    let outside = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    let outside_since = parts.next().and_then(|part| part.parse().ok()).map(Timestamp);
    Tries { failed, outside, outside_since }
}

fn taken(value: Value) -> Option<Entry> {
    let mut parts = array(value)?.into_iter();
    let position = position(&bytes(parts.next()?)?)?;
    let fields = fields(parts.next()?)?;
    let failed = number(&parts.next()?)?;
    let packed = text(parts.next()?)?;
    let tries = unpack(u32::try_from(failed).unwrap_or(u32::MAX), &packed);
    Some(Entry { position, fields, tries, kept: !packed.is_empty() })
}

fn fields(value: Value) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let flat = array(value)?;
    let mut fields = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        fields.push((bytes(name)?, bytes(value)?));
    }
    Some(fields)
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn unexpected() -> QueueError {
    QueueError::Unavailable(
        "the Redis server answered something unexpected (is it a proxy that does not know streams?)".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_and_back() {
        for (text, number) in [
            ("0-0", Some(0)),
            ("1-2", Some((1 << 64) + 2)),
            ("18446744073709551615-18446744073709551615", Some(u128::MAX)),
            ("5", None),
            ("a-b", None),
            ("1-18446744073709551616", None),
        ] {
            assert_eq!(position(text.as_bytes()).map(|position| position.0), number, "{text}");
            if let Some(number) = number {
                assert_eq!(id(Position(number)), text);
            }
        }
        assert_eq!(millis(Position((1_700_000_000_000 << 64) + 7)), 1_700_000_000_000);
    }

    #[test]
    fn scores_are_times() {
        for (text, expected) in [
            ("", None),
            ("0", Some(0)),
            ("1700000000000", Some(1_700_000_000_000)),
            ("1.7e+12", Some(1_700_000_000_000)),
            ("-5", Some(0)),
        ] {
            assert_eq!(score(text), expected.map(Timestamp), "{text}");
        }
    }

    #[test]
    fn tries_are_packed_and_back() {
        for tries in [
            Tries::default(),
            Tries { failed: 3, outside: 9, outside_since: Some(Timestamp(1_700_000_000_123)) },
            Tries { failed: u32::MAX, outside: 1, outside_since: None },
        ] {
            assert_eq!(unpack(tries.failed, &pack(tries)), tries);
        }
        assert_eq!(unpack(2, ""), Tries { failed: 2, ..Tries::default() });
        assert_eq!(unpack(2, "garbage"), Tries { failed: 2, ..Tries::default() });
    }

    #[test]
    fn answers_are_taken_apart() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let entry = |id: &str| vec![bulk(id), Value::Array(vec![bulk("event"), bulk("{}")])];
        let streams = Value::Array(vec![Value::Array(vec![bulk("k"), Value::Array(vec![Value::Array(entry("1-0"))])])]);
        let came = read(streams).unwrap();
        assert_eq!((came.len(), came[0].position), (1, Position(1 << 64)));
        assert_eq!(came[0].fields, [(b"event".to_vec(), b"{}".to_vec())]);
        assert_eq!(read(Value::Nil), Ok(Vec::new()));
        let taken = Value::Array([entry("1-0"), vec![Value::Int(2), bulk("2:5:")]].concat());
        let script = Value::Array(vec![bulk("ok"), Value::Array(vec![taken]), Value::Int(1), bulk("77")]);
        let Found::Entries(entries, vanished, next) = found(script).unwrap() else { panic!("not lost") };
        assert_eq!((entries[0].tries.failed, entries[0].tries.outside, vanished, next.as_str()), (2, 5, 1, "77"));
        assert_eq!(found(Value::Array(vec![bulk("lost")])), Ok(Found::Lost));
        assert!(found(Value::Okay).is_err());
    }
}

//! How an event stands on disk: the time when it was published, in 8 bytes, then CloudEvents JSON (structured mode).
//!
//! Written and checked on the caller's thread, so that the writer only moves bytes.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::event::{Event, json};
use crate::queue::QueueError;

/// Bytes in front of the JSON text.
const HEADER_BYTES: usize = size_of::<u64>();

/// An event on its way to disk.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) event: Arc<Event>,
    /// When it arrives: the time of its publish, or when it is due.
    pub(super) first_seen: Timestamp,
    pub(super) bytes: Vec<u8>,
}

/// An event as it came from disk, or has not left memory yet.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) event: Arc<Event>,
    pub(super) first_seen: Timestamp,
}

impl Row {
    /// Writes the event down, and reads it back: what is answered can be delivered, whoever made the event.
    pub(super) fn new(event: Arc<Event>, first_seen: Timestamp) -> Result<Self, QueueError> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + event.size() + 160);
        bytes.extend_from_slice(&first_seen.0.to_le_bytes());
        let invalid = |why: &dyn std::fmt::Display| QueueError::Invalid(format!("event `{}` can't be kept: {why}", event.id));
        json::write_into(&event, &mut serde_json::Serializer::new(&mut bytes)).map_err(|error| invalid(&error))?;
        read(&bytes).map_err(|error| invalid(&error))?;
        Ok(Self { event, first_seen, bytes })
    }
}

/// Reads a row's event and time.
pub(super) fn read(bytes: &[u8]) -> Result<Kept, String> {
    let (first_seen, text) = split(bytes)?;
    let event = json::read(text).map_err(|error| error.to_string())?;
    Ok(Kept { event: Arc::new(event), first_seen })
}

/// Reads only a row's time.
pub(super) fn first_seen(bytes: &[u8]) -> Option<Timestamp> {
    split(bytes).ok().map(|(first_seen, _)| first_seen)
}

fn split(bytes: &[u8]) -> Result<(Timestamp, &[u8]), String> {
    let (header, text) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or("row is cut off")?;
    Ok((Timestamp(u64::from_le_bytes(*header)), text))
}

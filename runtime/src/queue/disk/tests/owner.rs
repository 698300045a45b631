//! One process owns a folder.

use std::sync::Arc;

use crate::queue::disk::DiskQueue;
use crate::queue::{Queue, QueueError};

const MAX: u64 = 1024 * 1024;

#[tokio::test]
async fn a_second_opening_is_told_who_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let queue = DiskQueue::open(folder.path(), "first", MAX).unwrap();
    let QueueError::Owned(text) = DiskQueue::open(folder.path(), "second", MAX).unwrap_err() else { panic!("expected `Owned`") };
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    assert!(text.contains(&folder.path().display().to_string()), "{text}");
    queue.close().await;
    // Closed, though still held.
    let again = DiskQueue::open(folder.path(), "third", MAX).unwrap();
    drop(again);
    let other = DiskQueue::open(folder.path(), "fourth", MAX).unwrap();
    let clone = Arc::clone(&other);
    drop(other);
    assert!(matches!(DiskQueue::open(folder.path(), "fifth", MAX), Err(QueueError::Owned(_))));
    drop(clone);
    DiskQueue::open(folder.path(), "sixth", MAX).unwrap();
}

#[tokio::test]
async fn what_is_no_queue_is_refused_with_the_folder_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("events.redb"),
        "not a database, but somebody's notes, long enough to look like a header".repeat(99),
    )
    .unwrap();
    let error = DiskQueue::open(folder.path(), "first", MAX).unwrap_err();
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = DiskQueue::open(&file.join("queue"), "first", MAX).unwrap_err();
    assert!(matches!(&error, QueueError::Unavailable(text) if text.contains("file/queue")), "{error}");
}

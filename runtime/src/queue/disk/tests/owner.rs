//! One process owns a folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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

/// A process that is being started holds every file of this one until it has become its own program: that must not keep a folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_free_at_once_whatever_processes_are_started_meanwhile() {
    let over = Arc::new(AtomicBool::new(false));
    let starters: Vec<_> = (0..4)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::process::Command::new("true").status().unwrap();
                }
            })
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let mut rounds = 0;
    let mut held = None;
    while begun.elapsed() < Duration::from_secs(2) && held.is_none() {
        match DiskQueue::open(folder.path(), "again", MAX) {
            Ok(queue) if rounds % 2 == 0 => queue.close().await,
            Ok(queue) => drop(queue),
            Err(error) => held = Some(error),
        }
        rounds += 1;
    }
    over.store(true, Ordering::Relaxed);
    starters.into_iter().for_each(|starter| starter.join().unwrap());
    assert!(held.is_none(), "after {rounds} rounds: {held:?}");
}

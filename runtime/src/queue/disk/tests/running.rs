//! What runs when the process is killed has used up a try; what only waits, or was given back, has not.

use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::disk::DiskQueue;
use crate::queue::{Delivery, Position, Publish, Queue, Settle, Settlement, Start, Tries};

const FOLDER: &str = "WEIR_TEST_RUNNING_FOLDER";

async fn open(folder: &Path) -> Arc<DiskQueue> {
    let queue = DiskQueue::open(folder, "test", 1 << 30).unwrap();
    queue.subscribe("a", Start::New).await.unwrap();
    queue
}

async fn publish(queue: &DiskQueue, count: u64) {
    let event = |id: u64| Event { id: id.to_string(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    queue.publish((0..count).map(|id| Publish { event: Arc::new(event(id)), due: None }).collect()).await.unwrap();
}

async fn pull(queue: &DiskQueue, max: usize) -> Vec<Delivery> {
    queue.pull("a", NonZeroUsize::new(max).unwrap()).await.unwrap()
}

fn tries(failed: u32) -> Tries {
    Tries { failed, ..Tries::default() }
}

fn begin(queue: &DiskQueue, delivery: &Delivery) {
    queue.note("a", delivery.position, Tries { failed: delivery.tries.failed + 1, ..delivery.tries });
}

async fn settle(queue: &DiskQueue, delivery: &Delivery, settle: Settle) {
    queue.settle("a", vec![Settlement { position: delivery.position, settle }]).await.unwrap();
}

/// Kills the queue, and answers which events then come with which tries.
async fn killed(queue: Arc<DiskQueue>, folder: &Path) -> (Arc<DiskQueue>, Vec<(u64, u32)>) {
    drop(queue);
    let queue = open(folder).await;
    let came = pull(&queue, 100_000).await;
    let came = came.iter().map(|delivery| (delivery.event.id.parse().unwrap(), delivery.tries.failed)).collect();
    (queue, came)
}

#[tokio::test]
async fn a_try_that_was_begun_is_counted_over_and_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut queue = open(folder.path()).await;
    publish(&queue, 4).await;
    for round in 0..3 {
        let came = pull(&queue, 4).await;
        assert_eq!(came.iter().map(|delivery| delivery.tries.failed).collect::<Vec<_>>(), [0, round, 0, 0]);
        begin(&queue, &came[1]);
        drop(queue);
        queue = open(folder.path()).await;
    }
    // Also when nothing was delivered in between.
    assert_eq!(killed(queue, folder.path()).await.1, [(0, 0), (1, 3), (2, 0), (3, 0)]);
}

#[tokio::test]
async fn what_ended_or_was_given_back_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).await;
    publish(&queue, 6).await;
    let came = pull(&queue, 6).await;
    came.iter().for_each(|delivery| begin(&queue, delivery));
    settle(&queue, &came[3], Settle::Ack).await;
    settle(&queue, &came[1], Settle::Return).await;
    settle(&queue, &came[2], Settle::Retry { due: Timestamp(1), tries: tries(1) }).await;
    // A failure from outside: it ran, and costs no attempt.
    let outside = Tries { failed: 0, outside: 1, outside_since: Some(Timestamp(5)) };
    settle(&queue, &came[4], Settle::Retry { due: Timestamp(1), tries: outside }).await;
    let (queue, came) = killed(queue, folder.path()).await;
    assert_eq!(came, [(0, 1), (1, 0), (2, 1), (4, 0), (5, 1)]);
    queue.close().await;
    assert!(!folder.path().join("running").exists(), "after an orderly end there is nothing to count");
}

#[tokio::test]
async fn an_orderly_end_gives_back_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).await;
    publish(&queue, 2).await;
    pull(&queue, 2).await.iter().for_each(|delivery| begin(&queue, delivery));
    queue.close().await;
    queue.note("a", Position(0), tries(7));
    assert_eq!(killed(queue, folder.path()).await.1, [(0, 0), (1, 0)]);
}

#[tokio::test]
async fn a_retry_that_runs_again_keeps_what_its_process_knew() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).await;
    publish(&queue, 2).await;
    let came = pull(&queue, 2).await;
    settle(&queue, &came[0], Settle::Retry { due: Timestamp(1), tries: tries(1) }).await;
    let again = pull(&queue, 1).await;
    begin(&queue, &again[0]);
    // Held by this process for another try, after a failure from outside.
    let outside = Tries { failed: 1, outside: 2, outside_since: Some(Timestamp(7)) };
    queue.note("a", again[0].position, outside);
    drop(queue);
    let queue = open(folder.path()).await;
    let came = pull(&queue, 2).await;
    assert_eq!(came.iter().map(|delivery| delivery.tries).collect::<Vec<_>>(), [outside, tries(0)]);
    begin(&queue, &came[0]);
    settle(&queue, &came[0], Settle::Return).await;
    assert_eq!(pull(&queue, 1).await[0].tries, outside, "given back as it was");
}

#[tokio::test]
async fn slots_of_what_ended_are_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).await;
    publish(&queue, 2_000).await;
    for _ in 0..50 {
        let came = pull(&queue, 20).await;
        came.iter().for_each(|delivery| begin(&queue, delivery));
        let batch = came.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
        queue.settle("a", batch).await.unwrap();
    }
    assert_eq!(std::fs::metadata(folder.path().join("running")).unwrap().len(), 20 * 64);
    let came = pull(&queue, 1_000).await;
    came.iter().for_each(|delivery| begin(&queue, delivery));
    let (_, came) = killed(queue, folder.path()).await;
    assert_eq!(came, (1_000..2_000).map(|id| (id, 1)).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_torn_or_of_another_subscription_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).await;
    queue.subscribe("b", Start::All).await.unwrap();
    publish(&queue, 3).await;
    let came = pull(&queue, 3).await;
    came.iter().for_each(|delivery| begin(&queue, delivery));
    // Not leased there, so nothing runs.
    queue.note("b", came[0].position, tries(5));
    queue.note("nobody", came[0].position, tries(5));
    queue.note("a", Position(99), tries(5));
    queue.note("a", Position(u128::MAX), tries(5));
    let file = std::fs::OpenOptions::new().write(true).open(folder.path().join("running")).unwrap();
    file.write_all_at(&[0xff; 20], 64 + 10).unwrap();
    drop(file);
    queue.unsubscribe("b").await.unwrap();
    let (queue, came) = killed(queue, folder.path()).await;
    assert_eq!(came, [(0, 1), (1, 0), (2, 1)]);
    queue.unsubscribe("a").await.unwrap();
    publish(&queue, 1).await;
    assert_eq!(killed(queue, folder.path()).await.1, [(0, 0)], "a subscription made anew begins anew");
}

/// Not a test by itself: what the killed process does.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let queue = open(folder.as_ref()).await;
    let came = pull(&queue, 3).await;
    begin(&queue, &came[0]);
    begin(&queue, &came[2]);
    std::io::stdout().write_all(b"\nbegun\n").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn notes_outlive_a_killed_process() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).await;
    publish(&queue, 4).await;
    queue.close().await;
    for _ in 0..2 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "queue::disk::tests::running::child", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "begun"), "the child ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let queue = open(folder.path()).await;
    assert_eq!(killed(queue, folder.path()).await.1, [(0, 2), (1, 0), (2, 2), (3, 0)]);
}

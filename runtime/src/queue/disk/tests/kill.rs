//! kill -9 at any moment: what was answered before is there, and what was acked does not come back.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::event::Event;
use crate::queue::disk::DiskQueue;
use crate::queue::{Publish, Queue, Settle, Start};

const FOLDER: &str = "WEIR_TEST_KILL_FOLDER";
const ROUNDS: u32 = 5;

fn event(id: String) -> Publish {
    let event =
        Event { id, source: "/s".to_owned(), kind: "t".to_owned(), data: Some(vec![b'7'; 300].into()), ..Event::default() };
    Publish { event: Arc::new(event), due: None }
}

/// Not a test by itself: what the killed process does.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let queue = DiskQueue::open(folder.as_ref(), "killed", 1 << 30).unwrap();
        queue.subscribe("a", Start::New).await.unwrap();
        for publisher in 0..8 {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                for number in 0_u64.. {
                    let ids: Vec<_> =
                        (0..1 + number % 4).map(|n| format!("{}-{publisher}-{number}-{n}", std::process::id())).collect();
                    queue.publish(ids.iter().cloned().map(event).collect()).await.unwrap();
                    tell("taken", &ids);
                }
            });
        }
        loop {
            let came = queue.pull("a", NonZeroUsize::new(3).unwrap()).await.unwrap();
            let ids: Vec<_> = came.iter().map(|delivery| delivery.event.id.clone()).collect();
            let batch = came.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
            tell("ending", &ids);
            queue.settle("a", batch).await.unwrap();
            tell("ended", &ids);
        }
    });
}

/// One write, so that a line is whole or not there.
fn tell(what: &str, ids: &[String]) {
    let text: String = ids.iter().map(|id| format!("\n{what} {id}\n")).collect();
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}

#[derive(Default)]
struct Seen {
    taken: BTreeSet<String>,
    /// Their ack was asked for: they may have ended.
    ending: BTreeSet<String>,
    ended: BTreeSet<String>,
}

fn run_and_kill(folder: &std::path::Path, lines_max: usize, seen: &mut Seen) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "queue::disk::tests::kill::child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let note = |line: &str, seen: &mut Seen| {
        let Some((what, id)) = line.split_once(' ') else { return false };
        let set = match what {
            "taken" => &mut seen.taken,
            "ending" => &mut seen.ending,
            "ended" => &mut seen.ended,
            _ => return false,
        };
        set.insert(id.to_owned())
    };
    let mut noted = 0;
    while noted < lines_max {
        let line = lines.next().expect("the child ended by itself").unwrap();
        noted += usize::from(note(&line, seen));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still told before it was killed counts as well.
    lines.map_while(Result::ok).for_each(|line| {
        note(&line, seen);
    });
}

#[test]
fn what_was_answered_survives() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Seen::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for round in 0..ROUNDS {
        run_and_kill(folder.path(), fastrand::usize(1..2_000), &mut seen);
        let there = runtime.block_on(async {
            let queue = DiskQueue::open(folder.path(), "after", 1 << 30).unwrap();
            queue.subscribe("a", Start::New).await.unwrap();
            let mut there = BTreeSet::new();
            let pull = || queue.pull("a", NonZeroUsize::new(10_000).unwrap());
            while let Ok(came) = tokio::time::timeout(Duration::from_millis(200), pull()).await {
                for delivery in came.unwrap() {
                    assert!(there.insert(delivery.event.id.clone()), "`{}` came twice", delivery.event.id);
                }
            }
            queue.close().await;
            there
        });
        let lost: Vec<_> = seen.taken.difference(&there).filter(|id| !seen.ending.contains(*id)).collect();
        assert!(lost.is_empty(), "round {round}: {} of {} answered events are gone: {lost:?}", lost.len(), seen.taken.len());
        let back: Vec<_> = seen.ended.intersection(&there).collect();
        assert!(back.is_empty(), "round {round}: {} events came back after their ack was answered: {back:?}", back.len());
    }
    assert!(!seen.taken.is_empty() && !seen.ended.is_empty());
}

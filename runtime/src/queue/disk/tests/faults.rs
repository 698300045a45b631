//! A disk that fails: callers are told, what was answered is there, and the queue recovers with the disk.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::disk::DiskQueue;
use crate::queue::{Delivery, Health, Publish, Queue, QueueError, Settle, Settlement, Start, Tries};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Fault {
    None,
    Write,
    /// The next write only.
    WriteOnce,
    NoSpace,
    ShortWrite,
    Sync,
    Grow,
    Read,
}

impl Fault {
    const WRITING: [Self; 4] = [Self::Write, Self::NoSpace, Self::ShortWrite, Self::Sync];
}

/// A file whose operations fail as told.
#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    fault: Arc<AtomicU8>,
}

impl Faulty {
    fn has(&self, fault: Fault) -> bool {
        self.fault.load(Ordering::SeqCst) == fault as u8
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        if self.has(Fault::Read) { Err(Error::other("input/output error")) } else { self.file.read(offset, out) }
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        if self.has(Fault::Grow) { Err(ErrorKind::StorageFull.into()) } else { self.file.set_len(len) }
    }

    fn sync_data(&self) -> Result<(), Error> {
        if self.has(Fault::Sync) { Err(Error::other("input/output error")) } else { self.file.sync_data() }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let once = Fault::WriteOnce as u8;
        if self.has(Fault::Write)
            || self.fault.compare_exchange(once, Fault::None as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            return Err(Error::other("input/output error"));
        }
        if self.has(Fault::NoSpace) {
            return Err(ErrorKind::StorageFull.into());
        }
        if self.has(Fault::ShortWrite) {
            self.file.write(offset, &data[..data.len() / 2])?;
            return Err(ErrorKind::WriteZero.into());
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), Error> {
        self.file.close()
    }
}

struct Rig {
    folder: tempfile::TempDir,
    fault: Arc<AtomicU8>,
    queue: Arc<DiskQueue>,
}

fn open(folder: &Path, fault: &Arc<AtomicU8>) -> Arc<DiskQueue> {
    open_then(folder, fault, |_| {})
}

/// `opened` is called each time that the file was opened.
fn open_then(folder: &Path, fault: &Arc<AtomicU8>, opened: impl Fn(&AtomicU8) + Send + Sync + 'static) -> Arc<DiskQueue> {
    let (path, fault) = (folder.join("events.redb"), Arc::clone(fault));
    let opener = move |_: &redb::Builder| {
        // Little of the file in memory: what is read is read from it, and pages are written before the commit as well.
        let mut builder = redb::Builder::new();
        builder.set_cache_size(256 * 1024);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let database = builder.create_with_backend(Faulty { file: FileBackend::new(file)?, fault: Arc::clone(&fault) })?;
        opened(&fault);
        Ok(database)
    };
    DiskQueue::open_with(folder, "test".to_owned(), 1024 * 1024 * 1024, Box::new(opener)).unwrap()
}

impl Rig {
    async fn new() -> Self {
        let (folder, fault) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU8::new(Fault::None as u8)));
        let queue = open(folder.path(), &fault);
        queue.subscribe("a", Start::New).await.unwrap();
        Self { folder, fault, queue }
    }

    fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    /// Publishes until it works again; true: at the first try.
    async fn publish_until_taken(&self, id: &str) {
        let begun = Instant::now();
        while let Err(error) = self.queue.publish(vec![publish(id)]).await {
            assert!(begun.elapsed() < Duration::from_secs(10), "still refused: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn pull(&self, max: usize) -> Vec<Delivery> {
        let begun = Instant::now();
        loop {
            let pull = tokio::time::timeout(Duration::from_secs(10), self.queue.pull("a", NonZeroUsize::new(max).unwrap()));
            match pull.await.expect("nothing came") {
                Ok(came) => return came,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "still failing: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn pull_exactly(&self, count: usize) -> Vec<Delivery> {
        let mut came = Vec::new();
        while came.len() < count {
            came.extend(self.pull(count - came.len()).await);
        }
        came
    }

    async fn quiet(&self) {
        let pull = self.queue.pull("a", NonZeroUsize::MIN);
        let came = tokio::time::timeout(Duration::from_millis(50), pull).await;
        assert!(came.is_err(), "{came:?} came, expected nothing");
    }

    /// Waits until the queue says so, asking for nothing else.
    async fn mended(&self) {
        self.set(Fault::None);
        let begun = Instant::now();
        while let Some(error) = self.queue.health().error {
            assert!(begun.elapsed() < Duration::from_secs(10), "still broken: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn reopen(self) -> Self {
        let Self { folder, fault, queue } = self;
        drop(queue);
        let queue = open(folder.path(), &fault);
        Self { folder, fault, queue }
    }
}

fn publish(id: &str) -> Publish {
    let event = Event { id: id.to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    Publish { event: Arc::new(Event { data: Some(vec![b'1'; 2_000].into()), ..event }), due: None }
}

fn ids(came: &[Delivery]) -> Vec<&str> {
    came.iter().map(|delivery| delivery.event.id.as_str()).collect()
}

fn all(came: &[Delivery], settle: Settle) -> Vec<Settlement> {
    came.iter().map(|delivery| Settlement { position: delivery.position, settle }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_publish_is_told_and_not_delivered_and_nothing_else_is_lost() {
    for fault in Fault::WRITING {
        let rig = Rig::new().await;
        rig.queue.publish((0..20).map(|n| publish(&format!("before-{n}"))).collect()).await.unwrap();
        for round in 0..3 {
            rig.set(fault);
            let error = rig.queue.publish(vec![publish("failed"), publish("failed-too")]).await.unwrap_err();
            assert!(matches!(&error, QueueError::Unavailable(cause) if cause.contains("writing")), "{fault:?}: {error}");
            // Also while the last failure is a moment ago.
            rig.queue.publish(vec![publish("failed-again")]).await.unwrap_err();
            rig.set(Fault::None);
            rig.publish_until_taken(&format!("after-{round}")).await;
        }
        let expected: Vec<String> = (0..20).map(|n| format!("before-{n}")).chain((0..3).map(|n| format!("after-{n}"))).collect();
        let came = rig.pull_exactly(23).await;
        assert_eq!(ids(&came), expected, "{fault:?}");
        drop(came);
        let rig = rig.reopen();
        let came = rig.pull_exactly(23).await;
        assert_eq!(ids(&came), expected, "{fault:?}, opened again");
        rig.queue.settle("a", all(&came, Settle::Ack)).await.unwrap();
        let depth = rig.queue.depth().await.unwrap();
        assert_eq!((depth.events, depth.bytes), (Some(0), Some(0)), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_that_stands_all_the_same_is_taken_back() {
    let rig = Rig::new().await;
    rig.queue.publish(vec![publish("before")]).await.unwrap();
    let commit = rig.queue.shared.live().numbers.commit;
    let later = Publish { due: Some(crate::clock::now().after(Duration::from_secs(3_600))), ..publish("failed-later") };
    // Everything is written, only the sync fails: the file, opened again, shows the commit.
    rig.set(Fault::Sync);
    rig.queue.publish(vec![publish("failed"), later]).await.unwrap_err();
    rig.set(Fault::None);
    rig.publish_until_taken("after").await;
    assert_eq!(rig.queue.shared.live().numbers.commit, commit + 3, "one that stood, one that took back, one after");
    let rig = rig.reopen();
    let came = rig.pull_exactly(2).await;
    assert_eq!(ids(&came), ["before", "after"]);
    rig.queue.settle("a", all(&came, Settle::Ack)).await.unwrap();
    let depth = rig.queue.depth().await.unwrap();
    assert_eq!((depth.events, depth.bytes), (Some(0), Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_settlement_can_be_repeated() {
    for fault in Fault::WRITING {
        let rig = Rig::new().await;
        rig.queue.publish((0..8).map(|n| publish(&n.to_string())).collect()).await.unwrap();
        let came = rig.pull_exactly(6).await;
        let tries = Tries { failed: 1, ..Tries::default() };
        let (acked, retried) = came.split_at(3);
        let mut batch = all(&acked[1..], Settle::Ack);
        batch.extend(all(retried, Settle::Retry { due: Timestamp(1), tries }));
        rig.set(fault);
        rig.queue.settle("a", batch.clone()).await.unwrap_err();
        rig.set(Fault::None);
        rig.publish_until_taken("later").await;
        rig.queue.settle("a", batch).await.unwrap();
        let came = rig.pull_exactly(6).await;
        assert_eq!(ids(&came), ["3", "4", "5", "6", "7", "later"], "{fault:?}");
        assert!(came[..3].iter().all(|delivery| delivery.tries == tries), "{fault:?}: {came:?}");
        rig.quiet().await;
        let rig = rig.reopen();
        let came = rig.pull_exactly(7).await;
        assert_eq!(ids(&came), ["0", "3", "4", "5", "6", "7", "later"], "{fault:?}, opened again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_read_gives_the_events_back() {
    let rig = Rig::new().await;
    for n in 0..20 {
        rig.queue.publish((0..50).map(|m| publish(&format!("{n}-{m}"))).collect()).await.unwrap();
    }
    // Just opened, no event is in memory.
    let rig = rig.reopen();
    rig.set(Fault::Read);
    let pulled = rig.queue.pull("a", NonZeroUsize::new(400).unwrap()).await.map(|came| came.len());
    assert!(matches!(&pulled, Err(QueueError::Unavailable(cause)) if cause.contains("reading")), "{pulled:?}");
    rig.set(Fault::None);
    let came = rig.pull_exactly(1_000).await;
    assert_eq!(ids(&came)[..2], ["0-0", "0-1"]);
    rig.queue.settle("a", all(&came, Settle::Ack)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_a_broken_file_until_it_works_again_though_nobody_asks() {
    let rig = Rig::new().await;
    assert_eq!(rig.queue.health(), Health { connected_once: true, ..Health::default() });
    rig.set(Fault::Sync);
    rig.queue.publish(vec![publish("failed")]).await.unwrap_err();
    let error = rig.queue.health().error.unwrap();
    assert!(error.contains("writing") && error.contains(&rig.folder.path().display().to_string()), "{error}");
    rig.mended().await;
    rig.queue.publish((0..1_000).map(|n| publish(&n.to_string())).collect()).await.unwrap();
    // Just opened, no event is in memory.
    let rig = rig.reopen();
    rig.set(Fault::Read);
    rig.queue.pull("a", NonZeroUsize::new(400).unwrap()).await.unwrap_err();
    assert!(rig.queue.health().error.is_some());
    rig.mended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_that_cannot_be_counted_at_the_start_are_counted_at_the_next() {
    let rig = Rig::new().await;
    rig.queue.publish(vec![publish("0"), publish("1")]).await.unwrap();
    let tries = Tries { failed: 1, ..Tries::default() };
    rig.queue.note("a", rig.pull_exactly(2).await[1].position, tries);
    let Rig { folder, fault, queue } = rig;
    drop(queue);
    let opened = AtomicU8::new(0);
    let queue = open_then(folder.path(), &fault, move |fault| {
        // Opening works, the first write after it does not.
        if opened.fetch_add(1, Ordering::SeqCst) == 0 {
            fault.store(Fault::WriteOnce as u8, Ordering::SeqCst);
        }
    });
    let rig = Rig { folder, fault, queue };
    assert_eq!(rig.queue.health().error, None);
    let came = rig.pull_exactly(2).await;
    assert!(came.iter().all(|delivery| delivery.tries == Tries::default()), "{came:?}");
    rig.queue.note("a", came[0].position, tries);
    let came = rig.reopen().pull_exactly(2).await;
    assert!(came.iter().all(|delivery| delivery.tries == tries), "{came:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_grow_still_lets_go() {
    let rig = Rig::new().await;
    rig.set(Fault::Grow);
    let mut taken = 0;
    let error = loop {
        match rig.queue.publish((0..20).map(|n| publish(&format!("{taken}-{n}"))).collect()).await {
            Ok(()) => taken += 20,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, QueueError::Unavailable(_)), "{error}");
    rig.set(Fault::None);
    rig.publish_until_taken("after").await;
    let came = rig.pull_exactly(taken + 1).await;
    rig.queue.settle("a", all(&came, Settle::Ack)).await.unwrap();
    assert_eq!(rig.queue.depth().await.unwrap().events, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn under_random_faults_what_was_answered_comes_and_what_was_refused_does_not() {
    let rig = Arc::new(Rig::new().await);
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    let mut in_hand: Vec<Delivery> = Vec::new();
    let mut ended = Vec::new();
    for step in 0..150 {
        let faults = [Fault::None, Fault::None, Fault::None, Fault::Write, Fault::Sync, Fault::ShortWrite, Fault::Read];
        rig.set(faults[fastrand::usize(0..faults.len())]);
        let id = format!("event-{step}");
        match rig.queue.publish(vec![publish(&id)]).await {
            Ok(()) => taken.push(id),
            Err(QueueError::Unavailable(_)) => refused.push(id),
            Err(other) => panic!("{other}"),
        }
        let pull = rig.queue.pull("a", NonZeroUsize::new(3).unwrap());
        if let Ok(Ok(came)) = tokio::time::timeout(Duration::from_millis(2), pull).await {
            in_hand.extend(came);
        }
        if in_hand.len() > 4 {
            let batch = all(&in_hand, Settle::Ack);
            if rig.queue.settle("a", batch).await.is_ok() {
                ended.extend(in_hand.drain(..).map(|delivery| delivery.event.id.clone()));
            }
        }
        if refused.len() > 3 && step % 10 == 0 {
            rig.set(Fault::None);
            // Past the pause between two attempts to open the file.
            let id = format!("recovered-{step}");
            rig.publish_until_taken(&id).await;
            taken.push(id);
        }
    }
    rig.set(Fault::None);
    rig.publish_until_taken("last").await;
    taken.push("last".to_owned());
    while ended.len() + in_hand.len() < taken.len() {
        in_hand.extend(rig.pull(100).await);
    }
    rig.queue.settle("a", all(&in_hand, Settle::Ack)).await.unwrap();
    ended.extend(in_hand.drain(..).map(|delivery| delivery.event.id.clone()));
    rig.quiet().await;
    ended.sort();
    taken.sort();
    assert!(!refused.is_empty(), "no fault ever hit");
    assert_eq!(ended, taken);
    let depth = rig.queue.depth().await.unwrap();
    assert_eq!((depth.events, depth.bytes), (Some(0), Some(0)));
}

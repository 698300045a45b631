//! The embedded store over a real file: private, owned, damaged, and on a disk that takes no more. The rest: `store/tests.rs`.

use super::*;
use crate::event::Event;
use crate::store::Store;
use crate::store::tests::{letter, recent};

const KEPT: Timestamp = Timestamp(u64::MAX);

fn embedded(store: &Store) -> &Embedded {
    let crate::store::Backend::Embedded(embedded) = &store.backend else { panic!("not embedded") };
    embedded
}

#[tokio::test]
async fn folder_and_file_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("made");
    let _store = Store::open(&data).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join(FILE))), (0o700, 0o600));
}

#[tokio::test]
async fn a_second_owner_is_told_who_has_it() {
    let data = tempfile::tempdir().unwrap();
    let _store = Store::open(data.path()).unwrap();
    std::fs::write(data.path().join("server.json"), r#"{"url":"http://127.0.0.1:8077","pid":4711}"#).unwrap();
    let error = Store::open(data.path()).unwrap_err();
    assert!(matches!(error, StoreError::Owned(_)), "{error:?}");
    assert!(error.to_string().contains("(pid 4711, http://127.0.0.1:8077)"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_said_and_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let text = "not a store".repeat(1_000);
    std::fs::write(data.path().join(FILE), &text).unwrap();
    let error = Store::open(data.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
    assert_eq!(std::fs::read_to_string(data.path().join(FILE)).unwrap(), text);
}

#[tokio::test]
async fn mails_are_forgotten_after_their_time() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).unwrap();
    let now = clock::now();
    store.put_mail([1; 32], "<1@x>", now.after(Duration::from_secs(60))).await.unwrap();
    assert!(store.mail(&[1; 32], now).await.unwrap().is_some());
    assert!(store.mail(&[1; 32], now.after(Duration::from_secs(60))).await.unwrap().is_none());
    store.put_mail([1; 32], "<1@x>", Timestamp(now.0 - 1)).await.unwrap();
    store.put_mail([2; 32], "<2@x>", KEPT).await.unwrap();
    let left = embedded(&store)
        .shared
        .read(|transaction| {
            use redb::ReadableTableMetadata;
            Ok((transaction.open_table(tables::MAILS)?.len()?, transaction.open_table(tables::MAILS_BY_EXPIRY)?.len()?))
        })
        .unwrap();
    assert_eq!(left, (1, 1), "both tables forget");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_syncs_and_all_are_kept() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).unwrap();
    let writes = (0..2_000u64).map(|at| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.put_dead(&letter(&format!("{at:05}"), recent(3_600) + at)).await })
    });
    for write in futures_util::future::join_all(writes).await {
        write.unwrap().unwrap();
    }
    assert_eq!(store.dead_counts().await.unwrap().queues["events"].held, 2_000);
    let commits = embedded(&store).shared.commits.load(std::sync::atomic::Ordering::Relaxed);
    assert!(commits < 1_000, "2,000 writes took {commits} commits");
}

/// Runs this test again in a process that may not write files beyond a size, and then may: the kernel's own error, as from a full disk.
#[test]
fn a_full_disk_is_an_error_and_then_passes() {
    const CHILD: &str = "WEIR_TEST_FULL_DISK";
    if let Some(data) = std::env::var_os(CHILD) {
        return full_disk(Path::new(&data));
    }
    let data = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; exec \"$0\" --exact store::embedded::tests::a_full_disk_is_an_error_and_then_passes --nocapture",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, data.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn full_disk(data: &Path) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Store::open(data).unwrap();
    runtime.block_on(store.put_dead(&letter("before", recent(10)))).unwrap();
    let size = std::fs::metadata(data.join(FILE)).unwrap().len();
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(size), maximum: limit.maximum }).unwrap();
    let mut large = letter("large", recent(5));
    large.event = Arc::new(Event {
        data: Some("y".repeat(8 << 20).into()),
        datacontenttype: Some("text/plain".to_owned()),
        ..(*large.event).clone()
    });
    let error = runtime.block_on(store.put_dead(&large)).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(runtime.block_on(store.get_dead("before")).unwrap().is_some(), "what was kept can still be read");
    assert_eq!(embedded(&store).dead_counts().queues["events"].held, 1);
    setrlimit(Resource::Fsize, limit).unwrap();
    runtime.block_on(store.put_dead(&large)).unwrap();
    let page = runtime.block_on(store.list_dead(DeadFilter::default())).unwrap();
    assert_eq!(page.letters.iter().map(|letter| letter.id.as_str()).collect::<Vec<_>>(), ["large", "before"]);
}

/// Writes a letter's bytes as something else would, and answers what was there.
fn overwrite(store: &Store, id: &str, bytes: &[u8]) {
    embedded(store)
        .shared
        .with_database(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(dead::DEAD)?.insert(id, bytes)?;
            Ok(transaction.commit()?)
        })
        .unwrap();
}

#[tokio::test]
async fn a_letter_that_cant_be_read_hides_no_other_and_can_be_removed() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).unwrap();
    for (id, bytes) in [("a", &b""[..]), ("b", b"\x09{}"), ("c", b"\x02short"), ("d", b"\x02\0\0\0\0\0\0\0\0{}")] {
        store.put_dead(&letter(id, recent(10))).await.unwrap();
        overwrite(&store, id, bytes);
    }
    store.put_dead(&letter("good", recent(20))).await.unwrap();
    for reason in [None, Some("because".to_owned())] {
        let page = store.list_dead(DeadFilter { reason, ..DeadFilter::default() }).await.unwrap();
        assert_eq!((page.letters.len(), page.unreadable.len(), page.next), (1, 4, None));
        assert!(page.unreadable.iter().any(|one| one.id == "b" && one.reason.contains("newer Weir")), "{:?}", page.unreadable);
    }
    let error = store.get_dead("b").await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(text) if text.contains("`b`")), "{error:?}");
    for id in ["a", "b", "c"] {
        assert!(store.remove_dead(id).await.unwrap());
    }
    assert_eq!(store.dead_counts().await.unwrap().queues["events"].held, 2);
    let page = store.list_dead(DeadFilter::default()).await.unwrap();
    assert_eq!((page.letters.len(), page.unreadable.len()), (1, 1));
}

#[tokio::test]
async fn letters_of_the_version_before_are_read() {
    let data = tempfile::tempdir().unwrap();
    {
        let store = Store::open(data.path()).unwrap();
        let old = letter("old", recent(10));
        store.put_dead(&old).await.unwrap();
        overwrite(&store, "old", &[&[1][..], &serde_json::to_vec(&old).unwrap()].concat());
        let shared = &embedded(&store).shared;
        let forgotten = shared.with_database(|database| {
            let transaction = database.begin_write()?;
            transaction.delete_table(dead::DEAD_BY_QUEUE)?;
            Ok(transaction.commit()?)
        });
        forgotten.unwrap();
    }
    let store = Store::open(data.path()).unwrap();
    assert_eq!(store.get_dead("old").await.unwrap().unwrap().id, "old");
    assert!(store.remove_dead("old").await.unwrap());
    assert_eq!(store.dead_counts().await.unwrap().queues["events"].held, 0);
    assert!(store.list_dead(DeadFilter::default()).await.unwrap().letters.is_empty());
}

#[test]
fn the_oldest_that_ended_are_forgotten_when_there_are_too_many() {
    let data = tempfile::tempdir().unwrap();
    let database = Database::create(data.path().join("x.redb")).unwrap();
    let key = |number: u64| super::super::EventKey::of("/s", &number.to_string());
    let at = |number: u64| Sighting { key: key(number), position: Some(u128::from(number)) };
    let elsewhere = |number: u64| Sighting { position: None, ..at(number) };
    let transaction = database.begin_write().unwrap();
    duplicates::prepare(&transaction).unwrap();
    let batch = |from: u64, to: u64| (from..to).map(at).collect::<Vec<_>>();
    let bound = 100;
    for round in 0..10 {
        let times = (Timestamp(1_000 + round), Timestamp(round));
        let early = duplicates::keep_within(&transaction, "h", times, &batch(round * 20, round * 20 + 20), bound).unwrap();
        assert_eq!(early, round >= 5, "round {round}");
    }
    transaction.commit().unwrap();
    let transaction = database.begin_read().unwrap();
    let asked: Vec<_> = (0..200).map(elsewhere).collect();
    let seen = duplicates::seen(&transaction, "h", &asked, Timestamp(10)).unwrap();
    assert_eq!(seen.iter().filter(|seen| **seen).count(), 100);
    assert!(seen[100..].iter().all(|seen| *seen));
    let later = duplicates::seen(&transaction, "h", &asked, Timestamp(5_000)).unwrap();
    assert!(!later.contains(&true), "forgotten after the window, wherever it still stands");
    drop(transaction);
    let transaction = database.begin_write().unwrap();
    duplicates::sweep(&transaction, Timestamp(5_000)).unwrap();
    assert_eq!(duplicates::count(&transaction, "h").unwrap(), 0);
}

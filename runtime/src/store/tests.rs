//! The store over a real file: reopened, owned, bounded, and on a disk that takes no more.

use std::time::Duration;

use super::*;
use crate::event::Event;

const KEPT: Timestamp = Timestamp(u64::MAX);

fn letter(id: &str, dead_at: u64) -> DeadLetter {
    let event = Event { id: id.to_owned(), source: "/t".to_owned(), kind: "t".to_owned(), ..Event::default() };
    DeadLetter {
        id: id.to_owned(),
        handler: "mailer".to_owned(),
        queue: "events".to_owned(),
        reason: format!("because of {id}"),
        outcome: Some("trap"),
        limit: None,
        attempts: 2,
        first_at: Timestamp(dead_at - 1),
        dead_at: Timestamp(dead_at),
        version: None,
        event: Arc::new(event),
        log: "log".to_owned(),
        backtrace: vec!["frame".to_owned()],
    }
}

fn recent(seconds_ago: u64) -> u64 {
    clock::now().0 - seconds_ago * 1_000
}

async fn ids(store: &Store, filter: DeadFilter) -> Vec<String> {
    store.list_dead(filter).await.unwrap().0.into_iter().map(|letter| letter.id).collect()
}

#[tokio::test]
async fn what_was_answered_is_there_after_reopening() {
    let data = tempfile::tempdir().unwrap();
    {
        let store = Store::open(data.path()).unwrap();
        store.put_dead(&letter("a", recent(10))).await.unwrap();
        store.put_mail([7; 32], "<7@x>", KEPT).await.unwrap();
    }
    let store = Store::open(data.path()).unwrap();
    let found = store.get_dead("a").await.unwrap().unwrap();
    assert_eq!(format!("{found:?}"), format!("{:?}", letter("a", found.dead_at.0)));
    assert_eq!(store.mail(&[7; 32], clock::now()).unwrap().as_deref(), Some("<7@x>"));
    assert_eq!(store.mail(&[8; 32], clock::now()).unwrap(), None);
    assert!(store.get_dead("b").await.unwrap().is_none());
    assert_eq!(store.dead_counts().queues["events"], DeadCount { held: 1, dropped: 0 });
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
async fn lists_are_filtered_newest_first_and_bounded() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).unwrap();
    for (at, id) in ["a", "b", "c"].iter().enumerate() {
        let mut letter = letter(id, recent(100 - 10 * at as u64));
        letter.handler = format!("handler-{id}");
        store.put_dead(&letter).await.unwrap();
    }
    let mut elsewhere = letter("d", recent(5));
    elsewhere.queue = "other".to_owned();
    store.put_dead(&elsewhere).await.unwrap();
    let of = |filter: DeadFilter| ids(&store, filter);
    assert_eq!(of(DeadFilter::default()).await, ["d", "c", "b", "a"]);
    assert_eq!(of(DeadFilter { queue: Some("other".into()), ..DeadFilter::default() }).await, ["d"]);
    assert_eq!(of(DeadFilter { handler: Some("handler-b".into()), ..DeadFilter::default() }).await, ["b"]);
    assert_eq!(of(DeadFilter { reason: Some("of c".into()), ..DeadFilter::default() }).await, ["c"]);
    assert_eq!(of(DeadFilter { older_than: Some(Timestamp(recent(85))), ..DeadFilter::default() }).await, ["b", "a"]);
    let (two, more) = store.list_dead(DeadFilter { max: Some(2), ..DeadFilter::default() }).await.unwrap();
    assert_eq!((two.len(), more), (2, true));
    let (four, more) = store.list_dead(DeadFilter { max: Some(4), ..DeadFilter::default() }).await.unwrap();
    assert_eq!((four.len(), more), (4, false));
}

#[tokio::test]
async fn the_same_id_replaces_itself() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).unwrap();
    store.put_dead(&letter("a", recent(20))).await.unwrap();
    let bytes = store.dead_counts().bytes;
    store.put_dead(&letter("a", recent(10))).await.unwrap();
    assert_eq!(ids(&store, DeadFilter::default()).await, ["a"]);
    assert_eq!(
        store.dead_counts(),
        DeadCounts { bytes, queues: [("events".to_owned(), DeadCount { held: 1, dropped: 0 })].into() }
    );
}

#[tokio::test]
async fn the_oldest_dead_letters_go_first_and_are_counted() {
    let data = tempfile::tempdir().unwrap();
    let size = {
        let Write::Dead(row) = Write::dead(&letter("a", recent(1))).unwrap() else { panic!("not a dead letter") };
        row.size()
    };
    let store = Store::open_with(data.path(), Bounds { dead_keep: Duration::from_secs(60), dead_bytes: 3 * size }).unwrap();
    for (id, ago) in [("a", 50), ("b", 40), ("c", 30), ("d", 20)] {
        store.put_dead(&letter(id, recent(ago))).await.unwrap();
    }
    assert_eq!(ids(&store, DeadFilter::default()).await, ["d", "c", "b"]);
    assert_eq!(store.dead_counts().queues["events"], DeadCount { held: 3, dropped: 1 });
    store.put_dead(&letter("e", recent(61))).await.unwrap();
    assert_eq!(ids(&store, DeadFilter::default()).await, ["d", "c", "b"], "older than it is kept");
    drop(store);
    let store = Store::open_with(data.path(), Bounds { dead_keep: Duration::from_secs(25), dead_bytes: 3 * size }).unwrap();
    assert_eq!(ids(&store, DeadFilter::default()).await, ["d"], "what has become too old goes at start");
    assert_eq!(store.dead_counts().bytes, size);
}

#[tokio::test]
async fn a_letter_too_large_loses_log_and_backtrace_never_the_event() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).unwrap();
    let mut large = letter("a", recent(1));
    large.log = "x".repeat(DEAD_LETTER_BYTES_MAX);
    store.put_dead(&large).await.unwrap();
    let found = store.get_dead("a").await.unwrap().unwrap();
    assert_eq!((found.log.as_str(), found.backtrace.len()), ("", 0));
    let event = Event { data: Some("y".repeat(DEAD_LETTER_BYTES_MAX).into()), ..(*large.event).clone() };
    large.event = Arc::new(Event { datacontenttype: Some("text/plain".to_owned()), ..event });
    store.put_dead(&large).await.unwrap();
    assert_eq!(store.get_dead("a").await.unwrap().unwrap().event, large.event);
}

#[tokio::test]
async fn mails_are_forgotten_after_their_time() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).unwrap();
    let now = clock::now();
    store.put_mail([1; 32], "<1@x>", now.after(Duration::from_secs(60))).await.unwrap();
    assert!(store.mail(&[1; 32], now).unwrap().is_some());
    assert!(store.mail(&[1; 32], now.after(Duration::from_secs(60))).unwrap().is_none());
    store.put_mail([1; 32], "<1@x>", Timestamp(now.0 - 1)).await.unwrap();
    store.put_mail([2; 32], "<2@x>", KEPT).await.unwrap();
    let left = store
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
    assert_eq!(store.dead_counts().queues["events"].held, 2_000);
    let commits = store.shared.commits.load(std::sync::atomic::Ordering::Relaxed);
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
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact store::tests::a_full_disk_is_an_error_and_then_passes --nocapture"])
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
    assert_eq!(store.dead_counts().queues["events"].held, 1);
    setrlimit(Resource::Fsize, limit).unwrap();
    runtime.block_on(store.put_dead(&large)).unwrap();
    assert_eq!(runtime.block_on(ids(&store, DeadFilter::default())), ["large", "before"]);
}

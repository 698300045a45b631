//! What every place of buckets has to keep: the store of one process, a server, memory, and memory over either.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::*;
use crate::config::BucketGrant;
use crate::store::{Store, StoreUrl};

const ROOMY: u64 = 1 << 30;

fn bucket(owner: &str, max_bytes: u64) -> Bucket {
    Bucket { name: "b".to_owned(), owner: Some(owner.to_owned()), max_bytes }
}

fn put(entries: &[(&str, Option<&str>)]) -> Write {
    Write::Put(entries.iter().map(|(key, value)| ((*key).to_owned(), value.map(Into::into))).collect())
}

fn text(value: &str) -> Option<Vec<u8>> {
    Some(value.as_bytes().to_vec())
}

async fn read(place: &dyn Buckets, bucket: &Bucket, keys: &[&str]) -> Vec<Option<String>> {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let values = place.read(bucket, &keys).await.unwrap();
    values.into_iter().map(|value| value.map(|value| String::from_utf8(value).unwrap())).collect()
}

/// All keys, page by page.
async fn keys(place: &dyn Buckets, bucket: &Bucket) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = place.list(bucket, after).await.unwrap();
        assert!(page.keys.len() <= BATCH_MAX);
        all.extend(page.keys);
        match page.next {
            Some(next) => after = next,
            None => return all,
        }
    }
}

async fn values_are_kept(place: &dyn Buckets, bucket: &Bucket) {
    assert_eq!(place.size(bucket).await.unwrap(), Size::default());
    assert_eq!((keys(place, bucket).await, read(place, bucket, &[]).await), (vec![], vec![]));
    let written = place.write(bucket, put(&[("z", Some("1")), ("é", Some("")), ("z", Some("2"))])).await;
    assert_eq!(written, Ok(Written::Done));
    place.write(bucket, put(&[("a", Some("3")), ("none", None), ("é", None)])).await.unwrap();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(read(place, bucket, &["a", "é", "z", "a"]).await, [some("3"), None, some("2"), some("3")]);
    assert_eq!(keys(place, bucket).await, ["z", "a"], "in the order in which they came");
    assert_eq!(place.size(bucket).await.unwrap(), Size { keys: 2, bytes: 2 * ENTRY_BYTES + 4 });
    place.write(bucket, put(&[("z", Some("changed"))])).await.unwrap();
    assert_eq!(keys(place, bucket).await, ["z", "a"], "a change leaves it where it is");
    place.write(bucket, put(&[("z", None)])).await.unwrap();
    place.write(bucket, put(&[("z", Some("again"))])).await.unwrap();
    assert_eq!(keys(place, bucket).await, ["a", "z"]);
    let bytes: Vec<u8> = (0..=255).collect();
    place.write(bucket, Write::Put(vec![("z".to_owned(), Some(bytes.clone()))])).await.unwrap();
    assert_eq!(place.read(bucket, &["z".to_owned()]).await.unwrap(), [Some(bytes)]);
}

async fn numbers_and_swaps(place: &dyn Buckets, bucket: &Bucket) {
    let increment = |key: &str, delta| Write::Increment { key: key.to_owned(), delta };
    assert_eq!(place.write(bucket, increment("n", 5)).await, Ok(Written::Number(5)));
    let large = i64::MAX - 1;
    assert_eq!(place.write(bucket, increment("n", large - 5)).await, Ok(Written::Number(large)), "to the last digit");
    let beyond = place.write(bucket, increment("n", 2)).await.unwrap_err();
    assert!(matches!(&beyond, BucketError::Refused(text) if text.contains("would pass")), "{beyond}");
    assert_eq!(place.write(bucket, increment("n", 1)).await, Ok(Written::Number(i64::MAX)));
    assert_eq!(place.write(bucket, increment("m", i64::MIN)).await, Ok(Written::Number(i64::MIN)));
    for wrong in ["x", "05", "", "1.5"] {
        place.write(bucket, put(&[("text", Some(wrong))])).await.unwrap();
        let refused = place.write(bucket, increment("text", 1)).await.unwrap_err();
        assert!(matches!(&refused, BucketError::Refused(text) if text.contains("`text` is no number")), "{wrong}: {refused}");
        assert_eq!(read(place, bucket, &["text"]).await, [Some(wrong.to_owned())]);
    }
    let swap = |expected: Option<Vec<u8>>, value: &str| Write::Swap { key: "s".to_owned(), expected, value: value.into() };
    assert_eq!(place.write(bucket, swap(text(""), "1")).await, Ok(Written::Stale(None)));
    assert_eq!(place.write(bucket, swap(None, "1")).await, Ok(Written::Done));
    assert_eq!(place.write(bucket, swap(None, "2")).await, Ok(Written::Stale(text("1"))));
    assert_eq!(place.write(bucket, swap(text("1"), "")).await, Ok(Written::Done));
    assert_eq!(place.write(bucket, swap(text("1"), "2")).await, Ok(Written::Stale(text(""))));
    assert_eq!(keys(place, bucket).await, ["n", "m", "text", "s"]);
}

async fn a_bucket_is_bounded(place: &dyn Buckets, owner: &str) {
    let small = bucket(owner, 3 * (ENTRY_BYTES + 10));
    place.write(&small, put(&[("a", Some("123456789")), ("b", Some("123456789"))])).await.unwrap();
    let full = place.size(&small).await.unwrap();
    for write in [
        put(&[("c", Some("123456789")), ("d", Some(""))]),
        put(&[("a", Some(&"x".repeat(200)))]),
        Write::Swap { key: "c".to_owned(), expected: None, value: vec![0; 100] },
    ] {
        let refused = place.write(&small, write).await.unwrap_err();
        let says = format!("`max-size` of its grant is {}", small.max_bytes);
        assert!(matches!(&refused, BucketError::Refused(text) if text.contains(&says)), "{refused}");
    }
    assert_eq!(
        (place.size(&small).await.unwrap(), keys(place, &small).await),
        (full, vec!["a".into(), "b".into()]),
        "all or nothing"
    );
    place.write(&small, put(&[("c", Some("123456789"))])).await.unwrap();
    let number = place.write(&small, Write::Increment { key: "n".to_owned(), delta: 1 }).await;
    assert!(matches!(number, Err(BucketError::Refused(_))), "{number:?}");
    assert_eq!(read(place, &small, &["n"]).await, [None]);
    let lowered = bucket(owner, 10);
    place.write(&lowered, put(&[("a", Some("1234"))])).await.unwrap();
    place.write(&lowered, put(&[("a", None), ("b", None), ("c", None)])).await.unwrap();
    assert_eq!(place.size(&lowered).await.unwrap(), Size::default());
    let large = bucket(owner, ROOMY);
    for key in ["1", "2", "3", "4", "5"] {
        place.write(&large, Write::Put(vec![(key.to_owned(), Some(vec![b'x'; VALUE_MAX]))])).await.unwrap();
    }
    let many: Vec<String> = ["1", "2", "3", "4", "5"].map(str::to_owned).to_vec();
    assert_eq!(place.read(&large, &many).await, Err(too_much()));
    assert_eq!(place.read(&large, &many[..4]).await.unwrap().len(), 4);
}

async fn cursors_last(place: &dyn Buckets, bucket: &Bucket) {
    let all: Vec<String> = (0..2_500).map(|number| format!("k{number:04}")).collect();
    for part in all.chunks(BATCH_MAX) {
        let entries = part.iter().map(|key| (key.clone(), text("v"))).collect();
        place.write(bucket, Write::Put(entries)).await.unwrap();
    }
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = place.list(bucket, after).await.unwrap();
        // What was listed goes, and half of what was not: the cursor is good all the same.
        let gone: Vec<_> = page.keys.iter().map(|key| (key.clone(), None)).collect();
        found.extend(page.keys);
        place.write(bucket, Write::Put(gone)).await.unwrap();
        if found.len() == BATCH_MAX {
            place.write(bucket, put(&[("k2499", None), ("late", Some("1"))])).await.unwrap();
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let mut expected = all;
    expected.pop();
    expected.push("late".to_owned());
    // A batch has no order of its own, the batches have.
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(keys(place, bucket).await, Vec::<String>::new());
    assert_eq!(place.size(bucket).await.unwrap(), Size::default());
}

async fn of_many_at_once_each_counts(place: Arc<dyn Buckets>, other: Arc<dyn Buckets>, bucket: Bucket) {
    let tasks = (0..100).map(|number| {
        let (place, bucket) = (Arc::clone(if number % 2 == 0 { &place } else { &other }), bucket.clone());
        tokio::spawn(async move {
            place.write(&bucket, Write::Increment { key: "n".to_owned(), delta: 1 }).await.unwrap();
            place.write(&bucket, Write::Swap { key: "first".to_owned(), expected: None, value: vec![number] }).await.unwrap()
        })
    });
    let swapped = futures_util::future::join_all(tasks.collect::<Vec<_>>()).await;
    let winners = swapped.into_iter().filter(|written| *written.as_ref().unwrap() == Written::Done).count();
    assert_eq!((winners, read(&*place, &bucket, &["n"]).await), (1, vec![Some("100".to_owned())]));
}

/// `place` and `other` are one place, opened twice where that can be.
async fn contract(place: Arc<dyn Buckets>, other: Arc<dyn Buckets>) {
    values_are_kept(&*place, &bucket("values", ROOMY)).await;
    numbers_and_swaps(&*place, &bucket("numbers", ROOMY)).await;
    a_bucket_is_bounded(&*place, "bounded").await;
    cursors_last(&*place, &bucket("cursors", ROOMY)).await;
    of_many_at_once_each_counts(Arc::clone(&place), other, bucket("many", ROOMY)).await;
    assert_eq!(keys(&*place, &bucket("nobody", ROOMY)).await, Vec::<String>::new(), "buckets do not meet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = Store::open(folder.path()).unwrap();
        contract(Arc::clone(&store) as _, store as _).await;
    }
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(keys(&*store, &bucket("numbers", ROOMY)).await, ["n", "m", "text", "s"], "after reopening");
    assert_eq!(read(&*store, &bucket("many", ROOMY), &["n"]).await, [Some("100".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let memory: Arc<Overlay> = Arc::new(Overlay::over_nothing());
    contract(Arc::clone(&memory) as _, Arc::clone(&memory) as _).await;
    memory.forget().await;
    assert_eq!(memory.size(&bucket("many", ROOMY)).await.unwrap(), Size::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_over_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let over: Arc<Overlay> = Arc::new(Overlay::over(Arc::clone(&store) as _));
    contract(Arc::clone(&over) as _, over).await;
    assert_eq!(store.size(&bucket("many", ROOMY)).await.unwrap(), Size::default(), "nothing was written below");
    let there = bucket("there", ROOMY);
    store.write(&there, put(&[("a", Some("1")), ("b", Some("2")), ("n", Some("7"))])).await.unwrap();
    let before = store.size(&there).await.unwrap();
    let over = Overlay::over(Arc::clone(&store) as _);
    over.write(&there, put(&[("a", Some("changed")), ("b", None), ("c", Some("new"))])).await.unwrap();
    let number = over.write(&there, Write::Increment { key: "n".to_owned(), delta: 1 }).await;
    assert_eq!(number, Ok(Written::Number(8)));
    assert_eq!(keys(&over, &there).await, ["a", "n", "c"]);
    assert_eq!(over.size(&there).await.unwrap(), Size { keys: 3, bytes: before.bytes + 6 + 2 });
    over.write(&there, put(&[("b", Some("back"))])).await.unwrap();
    assert_eq!(keys(&over, &there).await, ["a", "n", "c", "b"]);
    over.write(&there, put(&[("c", None), ("b", None), ("a", None), ("n", None)])).await.unwrap();
    assert_eq!((keys(&over, &there).await, over.size(&there).await.unwrap()), (vec![], Size::default()));
    assert_eq!((keys(&*store, &there).await.len(), store.size(&there).await.unwrap()), (3, before));
}

#[cfg(feature = "redis")]
mod redis {
    use super::*;
    use crate::redis::server::{Keeps, RedisServer, shared};
    use crate::store::Settings;

    fn store(url: &str, group: &str) -> Arc<Store> {
        let url = StoreUrl::parse(url, Path::new("/")).unwrap();
        Store::open_with(&Settings { url, group: group.to_owned(), ..Settings::default() }).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn in_the_store_of_two_processes() {
        let [one, two] = ["a", "b"].map(|_| store(&shared().url(0), "buckets"));
        contract(Arc::clone(&one) as _, Arc::clone(&two) as _).await;
        assert_eq!(keys(&*two, &bucket("numbers", ROOMY)).await, ["n", "m", "text", "s"]);
        let elsewhere = store(&shared().url(0), "other-buckets");
        assert_eq!(keys(&*elsewhere, &bucket("numbers", ROOMY)).await, Vec::<String>::new(), "installations do not meet");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn away_is_an_outside_failure() {
        let mut server = RedisServer::start(Keeps::Always, &[]);
        let place = store(&server.url(0), "away");
        let there = bucket("h", ROOMY);
        place.write(&there, put(&[("a", Some("1"))])).await.unwrap();
        server.kill();
        let failed = place.write(&there, put(&[("a", Some("2"))])).await.unwrap_err();
        assert!(matches!(failed, BucketError::Unavailable(_)), "{failed}");
        assert!(matches!(place.list(&there, 0).await, Err(BucketError::Unavailable(_))));
        assert!(matches!(place.read(&there, &["a".to_owned()]).await, Err(BucketError::Unavailable(_))));
        server.start_again();
        let back = async {
            while place.read(&there, &["a".to_owned()]).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), back).await.unwrap();
        assert_eq!(read(&*place, &there, &["a"]).await, [Some("1".to_owned())]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn handlers_share_by_url_and_name_and_not_in_the_store() {
        let url = Some(StoreUrl::parse(&shared().url(1), Path::new("/")).unwrap());
        let grant = |url: &Option<StoreUrl>| [BucketGrant { bucket: "b".to_owned(), url: url.clone(), max_size: ROOMY }];
        let folder = tempfile::tempdir().unwrap();
        let places = Places::new(Store::open(folder.path()).unwrap(), "by-url", Handle::current());
        let bound = Duration::from_secs(30);
        for (url, shared) in [(url, true), (None, false)] {
            let open = |handler: &str| places.granted(handler, &grant(&url)).unwrap().unwrap().open("b").unwrap();
            let (one, two) = (open("one"), open("two"));
            one.write(put(&[("k", Some("v"))]), bound).await.unwrap();
            let found = two.read(&["k".to_owned()], bound).await.unwrap();
            assert_eq!(found, [shared.then(|| b"v".to_vec())], "{url:?}");
        }
        places.idle().await;
    }
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_before_it_leaves() {
    let places = Places::empty(Handle::current());
    assert!(places.granted("h", &[]).unwrap().is_none());
    let grant = BucketGrant { bucket: "b".to_owned(), url: None, max_size: BUCKET_BYTES };
    let granted = places.granted("h", &[grant]).unwrap().unwrap();
    assert!(granted.open("c").is_none());
    assert_eq!(granted.line_with("c"), r#"keyvalue = [{ bucket = "b" }, { bucket = "c" }]"#);
    let opened = granted.open("b").unwrap();
    let bound = Duration::from_secs(30);
    let many = |count: usize| (0..count).map(|number| (number.to_string(), text("v"))).collect::<Vec<_>>();
    for (write, says) in [
        (put(&[("", None)]), "the key is empty"),
        (put(&[(&"k".repeat(KEY_MAX + 1), None)]), "a key of 1025 bytes is longer than keys may be (1024)"),
        (Write::Put(vec![("k".to_owned(), Some(vec![0; VALUE_MAX + 1]))]), "the value of key `k` is 1048577 bytes"),
        (Write::Put(many(BATCH_MAX + 1)), "1001 keys are more than one call takes (1000)"),
    ] {
        let refused = opened.write(write, bound).await.unwrap_err();
        assert!(
            matches!(&refused, BucketError::Refused(text) if text.starts_with("bucket `b`: ") && text.contains(says)),
            "{refused}"
        );
    }
    opened.write(Write::Put(many(BATCH_MAX)), bound).await.unwrap();
    let longest = put(&[(&"k".repeat(KEY_MAX), Some(""))]);
    opened.write(longest, bound).await.unwrap();
    let refused = opened.read(&vec!["k".to_owned(); BATCH_MAX + 1], bound).await.unwrap_err();
    assert!(matches!(refused, BucketError::Refused(_)), "{refused}");
}

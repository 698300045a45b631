//! What a guest has of its buckets: every function in both drafts of `wasi:keyvalue`, what is refused with which words, and how it ends
//! when the place is away. What each place keeps: `keyvalue/tests.rs` of the runtime.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::{Duration, Instant};

use weir_runtime::config::BucketGrant;
use weir_runtime::keyvalue::BUCKET_BYTES;
use weir_runtime::outcome::Outcome;
use weir_runtime::sandbox::{LoadError, Report};
use weir_runtime::store::StoreUrl;
use weir_tests::assert_test_exists;
use weir_tests::guests::rig::{BOUND, Rig, Settings, check};
use weir_tests::guests::*;
use weir_tests::redis::{Keeps, RedisServer, shared};

weir_tests::foreach_keyvalue!(assert_test_exists);

/// The bucket `b` in the store, or at this URL.
fn granted(url: Option<&str>) -> Settings {
    let url = url.map(|url| StoreUrl::parse(url, "/".as_ref()).unwrap());
    let grant = BucketGrant { bucket: "b".to_owned(), url, max_size: BUCKET_BYTES };
    Settings { buckets: vec![grant], ..Settings::default() }
}

fn run(guest: &str, settings: &Settings, outcome: &str) -> Report {
    let rig = Rig::new();
    let report = rig.run(&rig.load(guest, settings).unwrap());
    assert_eq!(report.outcome.name(), outcome, "{report:?}");
    report
}

/// A guest says the same over the store and over a server, whose database is its own; and nothing is there without the grant.
#[track_caller]
fn says(guest: &str, database: u32, expected: &[&str]) {
    for settings in [granted(None), granted(Some(&shared().url(database)))] {
        let report = run(guest, &settings, "done");
        let lines: Vec<&str> = report.log.lines().collect();
        assert_eq!(lines, expected, "{settings:?}");
    }
    let error = Rig::new().load(guest, &Settings::default()).err().unwrap();
    let lines = if let LoadError::Imports(lines) = &error { lines.as_slice() } else { &[] };
    let line = r#"is not granted (add to weir.toml under [handler.guest.grants]: keyvalue = [{ bucket = "NAME" }])"#;
    assert!(!lines.is_empty(), "{error:?}");
    assert!(lines.iter().all(|told| told.contains("`wasi:keyvalue/") && told.contains(line)), "{lines:?}");
}

fn store_says(first: &str, second: &str, wrong: &str) -> [String; 12] {
    [
        "get Ok(None)".to_owned(),
        "set Ok(())".to_owned(),
        "set Ok(())".to_owned(),
        "set Ok(())".to_owned(),
        "get Ok(Some([50])) Ok(Some([0, 255]))".to_owned(),
        "exists Ok(true) Ok(false)".to_owned(),
        format!("list {first}"),
        "delete Ok(()) Ok(())".to_owned(),
        "exists Ok(false)".to_owned(),
        format!("list {second}"),
        format!("list {wrong}"),
        "get Ok(Some([0, 255]))".to_owned(),
    ]
}

fn page(keys: &str) -> String {
    format!("Ok(KeyResponse {{ keys: [{keys}], cursor: None }})")
}

#[test]
fn keyvalue_store_draft() {
    let lines = store_says(&page(r#""a", "b""#), &page(r#""b""#), &page(""));
    says(KEYVALUE_STORE_DRAFT, 2, &lines.each_ref().map(String::as_str));
}

#[test]
fn keyvalue_store_draft2() {
    let wrong = r#"Err(Error::Other("the cursor is none that `list-keys` answered with"))"#;
    let lines = store_says(&page(r#""a", "b""#), &page(r#""b""#), wrong);
    says(KEYVALUE_STORE_DRAFT2, 3, &lines.each_ref().map(String::as_str));
}

const BATCH_SAYS: [&str; 9] = [
    "set Ok(())",
    r#"get Ok([Some(("b", [50])), None, Some(("a", [51]))])"#,
    "delete Ok(())",
    "get Ok([None, None, None])",
    "none Ok([]) Ok(())",
    "set Ok(()) Ok(())",
    "page 1000 true",
    "delete Ok(())",
    r#"page ["last"] false"#,
];

#[test]
fn keyvalue_batch_draft() {
    says(KEYVALUE_BATCH_DRAFT, 4, &BATCH_SAYS);
}

#[test]
fn keyvalue_batch_draft2() {
    says(KEYVALUE_BATCH_DRAFT2, 5, &BATCH_SAYS);
}

#[test]
fn keyvalue_atomics_draft() {
    let beyond = "numbers go from 0 to 9223372036854775807 here";
    let expected = [
        "Ok(5) Ok(9223372036854775807)".to_owned(),
        format!(
            "Err(Error::Other(\"bucket `b`: the number at key `n` would pass -9223372036854775808 or 9223372036854775807\")) \
             Err(Error::Other(\"18446744073709551615 would be added, and {beyond}\"))"
        ),
        format!(
            "Err(Error::Other(\"bucket `b`: the value of key `text` is no number that can be incremented (expected decimal \
             digits)\")) Err(Error::Other(\"the number is now -1, and {beyond}\"))"
        ),
        r#"Some(Ok("9223372036854775807"))"#.to_owned(),
    ];
    says(KEYVALUE_ATOMICS_DRAFT, 6, &expected.each_ref().map(String::as_str));
}

#[test]
fn keyvalue_atomics_draft2() {
    let expected = [
        "Ok(5) Ok(-2)",
        "Err(Error::Other(\"bucket `b`: the number at key `n` would pass -9223372036854775808 or 9223372036854775807\"))",
        "Ok(None) true",
        "failed Ok(Some([49])) true",
        "Ok(Some([51]))",
        "Err(Error::Other(\"bucket `b`: the key is empty\"))",
    ];
    says(KEYVALUE_ATOMICS_DRAFT2, 7, &expected);
}

#[test]
fn keyvalue_denied() {
    let report = run(KEYVALUE_DENIED, &granted(None), "done");
    let line = r#"weir: denied: bucket `mine` is not granted (add to weir.toml under [handler.guest.grants]: keyvalue = [{ bucket = "b" }, { bucket = "mine" }])"#;
    assert_eq!(report.log.lines().collect::<Vec<_>>(), [line, "Err(Error::AccessDenied) Err(Error::AccessDenied)", "Ok(())"]);
    check(KEYVALUE_DENIED, &granted(None), "done", None);
}

#[test]
fn keyvalue_refused() {
    let mut settings = granted(None);
    settings.buckets[0].max_size = 2 << 20;
    let report = run(KEYVALUE_REFUSED, &settings, "done");
    let expected = [
        "Err(Error::Other(\"bucket `b`: the key is empty\"))",
        "Err(Error::Other(\"bucket `b`: a key of 1025 bytes is longer than keys may be (1024)\"))",
        "Err(Error::Other(\"bucket `b`: the value of key `k` is 1048577 bytes, more than a value may have (1048576)\"))",
        "Err(Error::Other(\"bucket `b`: 1001 keys are more than one call takes (1000)\"))",
        "Ok(())",
        "Err(Error::Other(\"bucket `b`: is full: it would hold 2097282 bytes, and `max-size` of its grant is 2097152 (delete keys, or \
         raise it; each key counts 64 bytes more)\"))",
        "Ok(true) Ok(false)",
        "Err(Error::Other(\"bucket `b`: the values are more than 4194304 bytes together, the most of one call (ask for fewer)\"))",
    ];
    assert_eq!(report.log.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn keyvalue_too_many() {
    check(KEYVALUE_TOO_MANY, &granted(None), "output", Some(("keyvalue", 10_000)));
}

#[test]
fn keyvalue_too_much() {
    let report = run(KEYVALUE_TOO_MUCH, &granted(None), "output");
    assert_eq!(report.outcome.limit().map(|limit| (limit.name, limit.value)), Some(("keyvalue-bytes", 64 << 20)));
}

#[test]
fn keyvalue_held() {
    let report = run(KEYVALUE_HELD, &granted(None), "done");
    let refused = "8 Error::Other(\"bucket `b`: compare-and-swap handles would hold more than 8388608 bytes of values\")";
    assert_eq!(report.log.lines().collect::<Vec<_>>(), [refused, "Ok(())"]);
}

#[test]
fn keyvalue_self_test() {
    let rig = Rig::new();
    let loaded = rig.load(KEYVALUE_SELF_TEST, &granted(None)).unwrap();
    let told = rig.probe(&loaded).unwrap_err().to_string();
    let nothing = "Err(Error::Other(\"bucket `b`: nothing is written while a new version is probed\"))";
    let list = "Ok(KeyResponse { keys: [], cursor: None })";
    assert_eq!(told, format!("self-test: (Ok(None), {list}, {nothing}, {nothing}) Err(Error::AccessDenied)"));
    assert_eq!(rig.run(&loaded).outcome, Outcome::Done);
    // Buckets are empty for a probe, whatever is in them.
    assert_eq!(rig.probe(&loaded).unwrap_err().to_string(), told);
}

/// A bucket on a server that answers nothing.
#[test]
fn keyvalue_away() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for settings in [granted(Some(&format!("redis://{nobody}"))), granted(Some(&format!("redis://{nobody}"))).with("value", "v")]
    {
        let report = run(KEYVALUE_AWAY, &settings, "host");
        assert!(report.outcome.reason().contains("can't be reached"), "{report:?}");
    }
    let server = RedisServer::start(Keeps::Nothing, &[]);
    server.freeze();
    let rig = Rig::new();
    let mut settings = granted(Some(&server.url(0))).with("value", "v");
    settings.limits.deadline = Duration::from_secs(1);
    let report = rig.run(&rig.load(KEYVALUE_AWAY, &settings).unwrap());
    assert_eq!(report.outcome.name(), "host", "a place that hangs is away, no deadline: {report:?}");
    assert!(report.outcome.reason().contains("the write is finished without this call"), "{report:?}");
    // It had not even been connected: what is finished is the task's doing.
    server.thaw();
    let reading = rig.load(KEYVALUE_AWAY, &granted(Some(&server.url(0)))).unwrap();
    let begun = Instant::now();
    while !rig.run(&reading).log.contains("Some([118])") {
        assert!(begun.elapsed() < BOUND, "the write was not finished");
    }
}

//! `batch` and the keys that it has to go with.

use std::time::Duration;

use super::super::BatchPolicy;
use super::{BASE, check, good};

/// A batch that is given no more than its table holds one event, and one is no reason for more concurrency.
#[test]
fn concurrency_holds_a_batch_of_each_queue() {
    let table = [
        ("", "batch = {}", 8, BatchPolicy::default()),
        ("", "batch = { size = 100 }", 100, BatchPolicy { size: 100, ..BatchPolicy::default() }),
        ("", "batch.size = 8", 8, BatchPolicy { size: 8, ..BatchPolicy::default() }),
        ("concurrency = 30", "batch = { size = 30, wait = '1m' }", 30, BatchPolicy { size: 30, wait: Duration::from_secs(60) }),
    ];
    for (concurrency, batch, expected, policy) in table {
        let handler = &good(&format!("{BASE}{concurrency}\n{batch}")).handlers["notify"];
        assert_eq!((handler.concurrency, handler.batch, handler.run), (expected, Some(policy), None), "{batch}");
    }
}

#[test]
fn values_of_batches() {
    let table = [
        ("batch = { size = 0 }", "18 0 → `handler.notify.batch.size` is out of range"),
        ("batch = { size = 10_001 }", "18 10_001 → `handler.notify.batch.size` is out of range"),
        ("batch = { wait = '61s' }", "18 '61s' → `handler.notify.batch.wait` is out of range"),
        ("batch = { sise = 5 }", "11 sise → `handler.notify.batch.sise` is not a known key"),
        ("batch = 5", "9 5 → `handler.notify.batch` is not a table"),
        ("batch = { size = 257 }", "1 batch → `batch.size` is more than may run at once of one queue (256)"),
    ];
    for (line, expected) in table {
        check(&format!("{BASE}{line}"), &[&format!("7:{expected}")]);
    }
    check(
        &format!("{BASE}batch = {{ size = 5 }}\nconcurrency = 4"),
        &["7:1 batch → `batch.size` is more than may run at once of one queue (4)"],
    );
    check(
        &format!("{BASE}batch = {{ size = 1 }}\nrun = 'handler'"),
        &["7:1 batch → `batch` is for batch handlers, and `run = \"handler\"` takes one event a call"],
    );
}

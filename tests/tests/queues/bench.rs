//! `weir bench --queue URL`: a bare client beside the queue of each broker. Nothing is timed here.

use std::time::Duration;

use weir_tests::brokers::{mosquitto, nats, nsq};
use weir_tests::redis::{self, Keeps, RedisServer};
use weir_tests::server::{Ran, Site};

use super::fresh;

/// Longest that one may take, without optimisation and beside other tests.
const BOUND: Duration = Duration::from_secs(300);

fn bench(url: &str, more: &[&str]) -> Ran {
    let args = [&["bench", "--queue", url, "--events", "300"], more].concat();
    Site::new("").run_within(&args, BOUND).ending(0)
}

/// The names of the rows.
fn rows(url: &str) -> Vec<String> {
    let rows = bench(url, &["--json"]).json()["rows"].as_array().unwrap().clone();
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

fn measures_both(url: &str) {
    assert_eq!(rows(url), ["bare", "tuned", "sandbox", "memory", "disk", "publish", "client", "broker"]);
}

/// All of them on one server of their own: nothing is left there.
#[test]
fn redis_streams_lists_and_sorted_sets() {
    let server = RedisServer::start(Keeps::Nothing, &[]);
    for kind in ["stream=k", "list=k", "list=k&take=left", "zset=k"] {
        measures_both(&format!("{}?{kind}", server.url(0)));
        assert_eq!(server.ask(&["KEYS", "*"]), "*0\r\n", "{kind}");
    }
}

#[test]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
fn jetstream() {
    let server = nats::start("");
    measures_both(&format!("{}/orders.new?stream=ORDERS", server.url()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let left: Vec<String> = runtime.block_on(async {
        use futures_util::TryStreamExt as _;
        let client = async_nats::connect(server.url()).await.unwrap();
        let names: Vec<String> = async_nats::jetstream::new(client).stream_names().try_collect().await.unwrap();
        names.into_iter().filter(|name| name.contains("bench")).collect()
    });
    assert_eq!(left, [""; 0]);
}

#[test]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
fn nsq_topic() {
    let server = nsq::start("");
    let http = format!("127.0.0.1:{}", server.http().unwrap());
    measures_both(&format!("{}/orders?http={http}", server.url()));
    let mut stats = ureq::get(format!("http://{http}/stats?format=json")).call().unwrap();
    let stats = stats.body_mut().read_to_string().unwrap();
    assert!(stats.contains("\"topics\":[]"), "{stats}");
    // Without it, what stays is named.
    let ran = bench(&format!("{}/orders", server.url()), &[]);
    assert!(ran.stdout.contains("\nnsq, on ") && ran.stdout.contains(" cores: CPU µs/event at most "), "{ran:?}");
}

#[test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
fn mqtt() {
    let server = mosquitto::start("");
    measures_both(&format!("{}/orders", server.url()));
}

/// What nobody reads is not kept there, so no queue can be filled: that is said.
#[test]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
fn where_nothing_waits_there_is_no_client() {
    let server = nats::start("");
    for (name, url) in [
        ("nats", format!("{}/orders.new", server.url())),
        ("redis-channel", format!("{}?channel={}", redis::shared().url(0), fresh())),
    ] {
        let ran = bench(&url, &[]);
        assert!(ran.stdout.contains("\nqueue ") && !ran.stdout.contains("\nclient "), "{ran:?}");
        assert!(
            ran.stdout.contains(&format!("\n{name}: what nobody reads is not kept, so there is no queue to fill")),
            "{ran:?}"
        );
    }
}

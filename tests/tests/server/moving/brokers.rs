//! Into the queue of each broker, and out of it in the place of its handler, with a kill in the middle.

use serde_json::json;
use weir_tests::brokers::{mosquitto, nats, nsq};

use super::*;

const COUNT: usize = 2_000;
const LATER: usize = 5;

/// `old` (on disk) to `mid`, and `mid` to `new` (a stream). `tells`: whether the queue can tell what waits; `stays`: whether it is known
/// that what is not due stays there, which is then said.
fn there_and_on(mid: &str, tells: bool, stays: bool) {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let it = handler("it", guests::SERVER_LOG, "paused = true").replace("\"events\"", "\"mid\"");
    let queues = format!("[queue.mid]\nurl = \"{mid}\"\n[queue.new]\nurl = \"{}?stream=new\"\n", redis.url(0));
    let site = Site::new(&format!("server.name = \"mill\"\n{queues}{it}"));
    // The handler's subscription is made, and kept while nobody runs it.
    let _ = site.start().stop();
    fill(&site, "disk:data/old", COUNT);
    let line = |at| json!({ "specversion": "1.0", "id": format!("later{at}"), "source": "/test", "type": "t" });
    let lines: String = (0..LATER).map(|at| format!("{}\n", line(at))).collect();
    let _ = site.run_with(&["publish", "disk:data/old", "--stdin", "--delay", "1h"], &lines).ending(0);

    let moved = site.run(&["move", "--from", "disk:data/old", "--to", "mid", "--json"]).ending(0).json();
    assert_eq!((&moved["moved"], &moved["left"]), (&json!(COUNT + LATER), &json!(0)));

    let args = ["move", "--from", "mid", "--to", "new", "--handler", "it", "--json"];
    let length = || number(&redis, &["XLEN", "new"]);
    let code = Running::start(&site, &args).signal_when(Signal::KILL, || length() > 0);
    assert!(code == -1 && length() < COUNT, "killed in the middle: {} of {COUNT}", length());
    let mut moved = site.run(&args);
    // An nsqd counts a moment late what the killed one held: then less than all had waited when the move began.
    for _ in 0..3 {
        if moved.code == 0 && moved.json()["left"].as_u64().is_some_and(|left| left > 0) {
            moved = site.run(&args);
        }
    }
    let (code, says) = if stays { (1, "5 events wait for their time in `mid` and stay") } else { (0, "") };
    assert!(moved.code == code && moved.stderr.contains(says), "{moved:?}");
    let moved = moved.json();
    let left = if tells { json!(LATER) } else { Value::Null };
    assert_eq!((&moved["left"], &moved["subscription"]), (&left, &json!("weir-it")));
    check_ids(&ids(&redis, "new"), COUNT);
}

#[test]
fn a_redis_list() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    there_and_on(&format!("{}?list=mid&lease=1s", redis.url(0)), true, true);
}

#[test]
fn a_redis_sorted_set() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    there_and_on(&format!("{}?zset=mid&lease=1s", redis.url(0)), true, true);
}

#[test]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
fn a_stream_of_nats() {
    let server = nats::start("");
    there_and_on(&format!("{}/mid.new?stream=mid&lease=1s", server.url()), true, true);
}

#[test]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
fn a_topic_of_nsq() {
    let server = nsq::start("");
    let http = server.http().unwrap();
    there_and_on(&format!("{}/one?lease=2s&http=127.0.0.1:{http}", server.url()), true, true);
    // Its delays are its own, and it does not tell.
    there_and_on(&format!("{}/two?lease=2s", server.url()), false, false);
}

#[test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
fn a_topic_of_mqtt() {
    let server = mosquitto::start("");
    there_and_on(&format!("{}/mid", server.url()), false, true);
}

/// Who reads a queue that can't tell that has to be named.
#[test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
fn who_reads_is_named() {
    let (mosquitto, nsqd) = (mosquitto::start(""), nsq::start(""));
    let site = Site::new("");
    for queue in [format!("{}/mid", mosquitto.url()), format!("{}/mid", nsqd.url())] {
        let ran = site.run(&["move", "--from", &queue, "--to", "disk:data/new"]).ending(2);
        let says = "queue `mid` can't tell who reads it (name the handler in whose place it is read: `--handler`)";
        assert!(ran.stderr.contains(says), "{ran:?}");
    }
}

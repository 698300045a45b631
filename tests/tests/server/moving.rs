//! `weir move`: from one queue to another, killed in the middle, with what waits for its time; and the way without a pause.

mod brokers;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::{Server, Site, event};

use crate::{handler, one_handler};

/// Events moved at once: what a kill may repeat.
const BATCH: usize = 100;

/// Longest wait for something that takes a second.
const SOON: Duration = Duration::from_secs(60);

/// Puts that many events into a queue, by the command.
fn fill(site: &Site, queue: &str, count: usize) {
    let line = |at| json!({ "specversion": "1.0", "id": format!("e{at}"), "source": "/test", "type": "t", "partitionkey": "k", "data": at });
    let lines: String = (0..count).map(|at| format!("{}\n", line(at))).collect();
    let _ = site.run_with(&["publish", queue, "--stdin"], &lines).ending(0);
}

/// A command under way.
struct Running(Child);

impl Running {
    fn start(site: &Site, args: &[&str]) -> Self {
        Self(site.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Sends it a signal once something holds, while it still runs. Answers its exit code, -1 after a signal.
    fn signal_when(mut self, signal: Signal, mut holds: impl FnMut() -> bool) -> i32 {
        let begun = Instant::now();
        while !holds() {
            assert!(self.0.try_wait().unwrap().is_none(), "it has ended before it was in the middle");
            assert!(begun.elapsed() < SOON, "it never came so far");
        }
        kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), signal).unwrap();
        self.0.wait().unwrap().code().unwrap_or(-1)
    }
}

/// How often each id stands in a stream.
fn ids(redis: &RedisServer, stream: &str) -> BTreeMap<String, usize> {
    let entries = redis.ask(&["XRANGE", stream, "-", "+"]);
    let mut counts = BTreeMap::new();
    for text in entries.lines().filter(|line| line.starts_with('{')) {
        let event: Value = serde_json::from_str(text).unwrap();
        assert_eq!((&event["source"], &event["partitionkey"]), (&json!("/test"), &json!("k")), "{event}");
        *counts.entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

/// Nothing is lost, and at most one batch is there twice.
#[track_caller]
fn check_ids(ids: &BTreeMap<String, usize>, count: usize) {
    let missing: Vec<_> = (0..count).map(|at| format!("e{at}")).filter(|id| !ids.contains_key(id)).take(10).collect();
    assert!(missing.is_empty() && ids.len() == count, "{} of {count}, without {missing:?}", ids.len());
    let repeated = ids.values().sum::<usize>() - count;
    assert!(repeated <= BATCH && ids.values().all(|times| *times <= 2), "{repeated} are there twice");
}

fn number(redis: &RedisServer, words: &[&str]) -> usize {
    redis.ask(words).trim().trim_start_matches(':').parse().unwrap_or(0)
}

#[test]
fn from_disk_to_redis_with_a_kill_in_the_middle() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let (count, later) = (20_000, 150);
    let queues = |reads: &str| {
        let url = redis.url(0);
        let queues = format!("[queue.old]\nurl = \"disk:./data/old\"\n[queue.new]\nurl = \"{url}?stream=new\"\n");
        format!("{queues}{}", handler("it", guests::SERVER_LOG, "paused = true").replace("\"events\"", reads))
    };
    let site = Site::new(&queues("\"old\""));
    // The handler's subscription is made, and then what it would get is moved in its place.
    let _ = site.start().stop();
    fill(&site, "old", count);
    let line = |at| json!({ "specversion": "1.0", "id": format!("later{at}"), "source": "/test", "type": "t" });
    let lines: String = (0..later).map(|at| format!("{}\n", line(at))).collect();
    let begun = now();
    let _ = site.run_with(&["publish", "old", "--stdin", "--delay", "1h"], &lines).ending(0);

    let args = ["move", "--from", "old", "--to", "new", "--handler", "it", "--json"];
    let length = || number(&redis, &["XLEN", "new"]);
    let code = Running::start(&site, &args).signal_when(Signal::KILL, || length() > 0);
    assert!(code == -1 && length() < count, "killed in the middle: {} of {count}", length());
    let moved = site.run(&args).ending(0).json();
    assert_eq!((&moved["left"], &moved["interrupted"], &moved["subscription"]), (&json!(0), &json!(false), &json!("weir-it")));
    check_ids(&ids(&redis, "new"), count);

    // What was delayed is delayed there, until the same time.
    let scores = dues(&redis, "new");
    assert_eq!(scores.len(), later);
    let hour = 3_600_000;
    assert!(scores.iter().all(|due| (begun + hour..=now() + hour).contains(due)), "{scores:?}");

    // Again: there is nothing.
    let again = site.run(&args).ending(0).json();
    assert_eq!((&again["moved"], &again["left"]), (&json!(0), &json!(0)));
}

/// When the delayed publishes of a stream are due.
fn dues(redis: &RedisServer, stream: &str) -> Vec<u64> {
    // Members are not all text.
    let scores = "local rows, dues = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), {} \
        for at = 2, #rows, 2 do dues[#dues + 1] = rows[at] end return dues";
    let answer = redis.ask(&["EVAL", scores, "1", &format!("{{{stream}}}.delayed")]);
    answer.lines().filter(|line| !line.starts_with(['*', '$'])).map(|line| line.parse().unwrap()).collect()
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

#[test]
fn from_redis_to_disk_with_a_kill_in_the_middle() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    // URLs need no weir.toml.
    let site = Site::new("");
    std::fs::remove_file(site.path("weir.toml")).unwrap();
    let (old, new) = (format!("{}?stream=old&lease=1s", redis.url(0)), "disk:data/new");
    let count = 5_000;
    fill(&site, &old, count);
    let args = ["move", "--from", &old, "--to", new];
    let read = || {
        let groups = redis.ask(&["XINFO", "GROUPS", "old"]);
        let after = groups.lines().skip_while(|line| *line != "entries-read").nth(1).unwrap_or_default();
        after.trim_start_matches(':').parse().unwrap_or(0)
    };
    let code = Running::start(&site, &args).signal_when(Signal::KILL, || read() > 500);
    assert!(code == -1 && read() < count, "killed in the middle: {} of {count}", read());
    // What the killed one held comes when its lease has lapsed.
    let ran = site.run(&args).ending(0);
    assert!(ran.stdout.starts_with("moved ") && ran.stdout.ends_with(" events from `old` to `new`\n"), "{ran:?}");

    // Somewhere else, to be counted there.
    let check = format!("{}?stream=check", redis.url(0));
    let _ = site.run(&["move", "--from", new, "--to", &check]).ending(0);
    check_ids(&ids(&redis, "check"), count);
}

#[test]
fn it_ends_after_the_batch_in_hand() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let site = Site::new("");
    let (old, new) = ("disk:data/old", format!("{}?stream=new", redis.url(0)));
    let count = 20_000;
    fill(&site, old, count);
    let args = ["move", "--from", old, "--to", &new, "--json"];
    let length = || number(&redis, &["XLEN", "new"]);
    let code = Running::start(&site, &args).signal_when(Signal::INT, || length() > 0);
    assert!(code == 130 && length() < count, "exit code {code}, {} of {count}", length());
    assert_eq!(length() % BATCH, 0, "whole batches");
    let rest = count - length();
    let moved = site.run(&args).ending(0).json();
    assert_eq!((&moved["moved"], &moved["left"]), (&json!(rest), &json!(0)));
    assert!(ids(&redis, "new").values().all(|times| *times == 1), "nothing twice without a kill");
}

/// A retry that the handler asked for keeps its time.
#[test]
fn what_waits_for_its_next_try_takes_its_time_along() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let url = redis.url(0);
    let ends = [format!("{url}?stream=one"), "disk:./data/two".to_owned(), format!("{url}?stream=three")];
    let config = |queue: &str| one_handler(queue, guests::OUTCOME_RETRY, "retry.backoff = \"1h..1h\"");
    let site = Site::new(&config(&ends[0]));
    let server = site.start();
    server.accept("events", "1", &Value::Null);
    let waits = |server: &Server| server.metrics().sum("weir_events_returned_total", &[("cause", "delay")]) == 1;
    server.eventually("it waits for its next try", waits);
    let _ = server.stop();
    for pair in ends.windows(2) {
        let moved = site.run(&["move", "--from", &pair[0], "--to", &pair[1], "--json"]).ending(0).json();
        assert_eq!((&moved["moved"], &moved["left"]), (&json!(1), &json!(0)), "{pair:?}");
    }
    let dues = dues(&redis, "three");
    assert!(matches!(dues.as_slice(), [due] if (now() + 1_500_000..now() + 3_600_000).contains(due)), "{dues:?}");
}

#[test]
fn what_is_refused() {
    let site = Site::new(&format!(
        "[queue.events]\nurl = \"disk:./data/events\"\n[queue.small]\nurl = \"disk:./data/small\"\nmax-size = \"400B\"\n{}{}",
        handler("one", guests::SERVER_LOG, "paused = true"),
        handler("two", guests::SERVER_LOG, "paused = true"),
    ));
    let server = site.start();
    server.accept("events", "1", &Value::Null);
    let owned = site.run(&["move", "--from", "events", "--to", "disk:data/other", "--handler", "one"]).ending(1);
    assert!(owned.stderr.contains(&format!("process {}", server.pid())), "{owned:?}");
    let _ = server.stop();
    for (args, code, says) in [
        (&["--from", "events", "--to", "events"][..], 2, "are the same queue"),
        (&["--from", "events", "--to", "disk:data/../data/events"], 2, "are the same queue"),
        (&["--from", "events", "--to", "small"], 2, "several subscriptions: `one`, `two` (name one: `--handler`)"),
        (&["--from", "events", "--to", "small", "--handler", "three"], 2, "(known: `one`, `two`)"),
        (&["--from", "evnts", "--to", "small"], 2, "evnts"),
        (&["--from", "disk:data/none", "--to", "small"], 1, "is not there"),
        (&["--from", "memory:", "--to", "small"], 1, "memory:"),
    ] {
        let ran = site.run(&[&["move"], args].concat()).ending(code);
        assert!(ran.stdout.is_empty() && ran.stderr.contains(says), "{args:?}: {ran:?}");
    }
    // A queue that is away takes nothing, and nothing is lost.
    let away = ["move", "--from", "events", "--to", "redis://127.0.0.1:1?stream=x", "--handler", "one"];
    let ran = site.run(&away).ending(1);
    assert!(ran.stdout.contains("moved 0 events") && ran.stderr.contains("127.0.0.1:1"), "{ran:?}");
    // An event that the other queue could never hold stays; others go.
    let large = json!({ "specversion": "1.0", "id": "large", "source": "/s", "type": "t", "data": "x".repeat(1_000) });
    let small = json!({ "specversion": "1.0", "id": "small", "source": "/s", "type": "t" });
    let _ = site.run_with(&["publish", "events", "--stdin"], &format!("{large}\n{small}\n")).ending(0);
    let ran = site.run(&["move", "--from", "events", "--to", "small", "--handler", "two", "--json"]).ending(1);
    assert!(ran.stderr.contains("event `large` stays"), "{ran:?}");
    assert_eq!((&ran.json()["moved"], &ran.json()["left"]), (&json!(2), &json!(1)));
    // The other handler still has them all.
    let queues = site.run(&["queues", "--json"]).ending(0).json();
    let depth = |handler: &str| {
        let found = queues[0]["subscriptions"].as_array().unwrap().iter().find(|one| one["handler"] == handler).unwrap();
        found["depth"].as_u64().unwrap()
    };
    assert_eq!((depth("one"), depth("two")), (3, 1));
}

/// The way without a pause: the handler reads both queues, with one window of duplicates over them.
#[test]
fn an_event_in_both_queues_runs_once() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let url = redis.url(0);
    let ways =
        [("disk:./data/old".to_owned(), format!("{url}?stream=new")), (format!("{url}?stream=one"), format!("{url}?stream=two"))];
    for (old, new) in ways {
        let both = handler("it", guests::SERVER_LOG, "duplicates = \"10m\"").replace("\"events\"", "[\"old\", \"new\"]");
        let site = Site::new(&format!("[queue.old]\nurl = \"{old}\"\n[queue.new]\nurl = \"{new}\"\n{both}"));
        let server = site.start();
        let all: Vec<String> = (0..200).map(|at| format!("e{at}")).collect();
        let events: Vec<Value> = all.iter().map(|id| event(id, &Value::Null)).collect();
        // At once in both, and once more after a restart.
        std::thread::scope(|scope| {
            for queue in ["old", "new"] {
                let (server, events) = (&server, &events);
                scope.spawn(move || assert_eq!(server.publish_batch(queue, events).status, 202));
            }
        });
        server.ended(400);
        let ended = |server: &Server, state| server.metrics().sum("weir_events_ended_total", &[("state", state)]);
        assert_eq!((ended(&server, "acked"), ended(&server, "duplicate")), (200, 200), "{old}, {new}");
        let mut handled = server.stop().events("handled");
        handled.sort_unstable();
        let mut expected = all.clone();
        expected.sort_unstable();
        assert_eq!(handled, expected);
        let server = site.start();
        assert_eq!(server.publish_batch("new", &events).status, 202);
        server.ended(200);
        assert_eq!(ended(&server, "duplicate"), 200);
    }
}

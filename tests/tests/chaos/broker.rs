//! What stands on the Redis server, read by a client of the test's own.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Connection, cmd};
use serde_json::Value;
use weir_tests::redis::RedisServer;

use crate::plan::{GROUP, Plan, RESULTS, STREAM};

/// Entries of one command.
const PAGE: usize = 1_000;

/// What the server holds in the end.
pub(crate) struct Standing {
    /// Dead letters by event.
    pub(crate) dead: BTreeMap<usize, Value>,
    /// Ids of what was published about each event that is done.
    pub(crate) results: BTreeMap<usize, BTreeSet<String>>,
    /// Keys of the group that still hold something.
    pub(crate) left: Vec<String>,
}

fn connect(server: &RedisServer) -> Connection {
    redis::Client::open(server.url(0)).unwrap().get_connection().unwrap()
}

/// The id of an entry: milliseconds, and the number within one.
type Id = (u64, u64);

fn id(text: &str) -> Id {
    let (millis, number) = text.split_once('-').unwrap();
    (millis.parse().unwrap(), number.parse().unwrap())
}

/// Publishes all events; answers their ids in the stream.
pub(crate) fn fill(server: &RedisServer, plan: &Plan) -> Vec<Id> {
    let mut connection = connect(server);
    let all: Vec<usize> = (0..plan.count()).collect();
    let mut ids = Vec::with_capacity(all.len());
    for some in all.chunks(PAGE) {
        let mut commands = redis::pipe();
        for at in some {
            commands.cmd("XADD").arg(STREAM).arg("*").arg("event").arg(plan.event(*at).to_string());
        }
        ids.extend(commands.query::<Vec<String>>(&mut connection).unwrap().iter().map(|added| id(added)));
    }
    ids
}

/// How many of these events have not ended: those that nobody has read, and those that are pending. (The server's own `lag` is not known
/// after a restart.)
pub(crate) fn left(server: &RedisServer, published: &[Id]) -> usize {
    let groups: Vec<BTreeMap<String, redis::Value>> = cmd("XINFO").arg("GROUPS").arg(STREAM).query(&mut connect(server)).unwrap();
    let group = groups.into_iter().next().expect("a group reads the stream");
    let text = |name: &str| redis::from_redis_value_ref::<String>(&group[name]).unwrap();
    assert_eq!(text("name"), GROUP);
    let read = id(&text("last-delivered-id"));
    text("pending").parse::<usize>().unwrap() + published.len() - published.partition_point(|id| *id <= read)
}

/// The name of the process that reads now, where one reads at a time.
pub(crate) fn reader(server: &RedisServer) -> Option<String> {
    let token: Option<String> = cmd("GET").arg(format!("{{{STREAM}}}.reader.{GROUP}")).query(&mut connect(server)).unwrap();
    token.and_then(|token| token.split('.').next().map(str::to_owned))
}

/// Everything, at the end.
pub(crate) fn standing(server: &RedisServer) -> Standing {
    let mut connection = connect(server);
    let mut dead = BTreeMap::new();
    for mut fields in entries(&mut connection, &format!("{{{STREAM}}}.dead")) {
        let letter: Value = serde_json::from_str(&fields.remove("letter").unwrap()).unwrap();
        let event = letter["event"]["id"].as_str().unwrap().parse().unwrap();
        assert!(dead.insert(event, letter).is_none(), "event {event} has two dead letters");
    }
    let mut results: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for mut fields in entries(&mut connection, RESULTS) {
        let event: Value = serde_json::from_str(&fields.remove("event").unwrap()).unwrap();
        let about: usize = event["data"].as_str().unwrap().parse().unwrap();
        results.entry(about).or_default().insert(event["id"].as_str().unwrap().to_owned());
    }
    let keys = [format!("{{{STREAM}}}.retry.{GROUP}"), format!("{{{STREAM}}}.tries.{GROUP}")];
    let exists = |key: &String| cmd("EXISTS").arg(key).query::<bool>(&mut connect(server)).unwrap();
    Standing { dead, results, left: keys.into_iter().filter(exists).collect() }
}

fn entries(connection: &mut Connection, stream: &str) -> Vec<BTreeMap<String, String>> {
    let (mut all, mut after) = (Vec::new(), "-".to_owned());
    loop {
        let page: Vec<(String, BTreeMap<String, String>)> =
            cmd("XRANGE").arg(stream).arg(&after).arg("+").arg("COUNT").arg(PAGE).query(connection).unwrap();
        let Some((last, _)) = page.last() else { return all };
        after = format!("({last}");
        all.extend(page.into_iter().map(|(_, fields)| fields));
    }
}

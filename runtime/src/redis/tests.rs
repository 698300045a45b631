//! The connection against real servers.

use std::time::Duration;

use super::server::{Keeps, RedisServer, shared};
use super::*;

fn redis(url: &str) -> Redis {
    Redis::new(&RedisUrl::parse(url).unwrap().0).unwrap()
}

async fn ping(redis: &Redis) -> Result<String, RedisProblem> {
    redis.query(&::redis::cmd("PING")).await
}

#[track_caller]
fn refused(problem: RedisProblem, says: &str) {
    let RedisProblem::Refused(text) = &problem else { panic!("{problem:?}") };
    assert!(text.contains(says) && !text.contains("s3cret"), "{text}");
}

#[test]
fn waits_grow_and_differ() {
    for (failures, chance, millis) in
        [(1, 0.0, 25), (1, 1.0, 50), (2, 1.0, 100), (5, 1.0, 800), (8, 1.0, 5_000), (8, 0.0, 2_500), (u32::MAX, 0.5, 3_750)]
    {
        assert_eq!(backoff(failures, chance), Duration::from_millis(millis), "{failures} {chance}");
    }
}

#[tokio::test]
async fn databases_are_apart() {
    let (first, second) = (redis(&shared().url(0)), redis(&shared().url(3)));
    let () = first.query(::redis::cmd("SET").arg("apart").arg(1)).await.unwrap();
    let there: Option<u32> = second.query(::redis::cmd("GET").arg("apart")).await.unwrap();
    assert_eq!(there, None);
    refused(ping(&redis(&shared().url(99))).await.unwrap_err(), "no database of this number");
}

#[tokio::test]
async fn a_unix_socket_is_as_good() {
    let url = format!("redis+unix://{}?db=1", shared().socket().display());
    assert_eq!(ping(&redis(&url)).await.unwrap(), "PONG");
}

#[tokio::test]
async fn logins_are_told_and_their_errors_say_what_is_missing() {
    let acl = "--user ann on >p/w:s3cret ~orders* +@read +@connection";
    let server = RedisServer::start(Keeps::Nothing, &["--requirepass s3cret", acl]);
    let at = |login: &str| redis(&format!("redis://{login}127.0.0.1:{}/0", server.port()));
    refused(ping(&at("")).await.unwrap_err(), "asks for a login");
    refused(ping(&at(":s3cretwrong@")).await.unwrap_err(), "does not take this user and password");
    assert_eq!(ping(&at(":s3cret@")).await.unwrap(), "PONG");
    let ann = at("ann:p%2Fw%3As3cret@");
    assert_eq!(ping(&ann).await.unwrap(), "PONG");
    let problem = ann.query::<()>(::redis::cmd("SET").arg("orders").arg(1)).await.unwrap_err();
    refused(problem, "lacks a permission");
    let problem = ann.query::<()>(::redis::cmd("GET").arg("other")).await.unwrap_err();
    refused(problem, "lacks a permission");
    let open = RedisServer::start(Keeps::Nothing, &[]);
    refused(ping(&redis(&format!("redis://:s3cret@127.0.0.1:{}", open.port()))).await.unwrap_err(), "takes no password");
}

#[tokio::test]
async fn tls_checks_who_answers() {
    let server = RedisServer::start_with_tls(Keeps::Nothing);
    let good = format!("{}?ca={}", server.url(0), server.authority().display());
    assert_eq!(ping(&redis(&good)).await.unwrap(), "PONG");
    let unknown = ping(&redis(&server.url(0))).await.unwrap_err();
    assert!(unknown.to_string().contains("certificate"), "{unknown}");
    let missing = RedisUrl::parse(&format!("{}?ca=/no/such.pem", server.url(0))).unwrap().0;
    refused(Redis::new(&missing).err().unwrap(), "can't read `/no/such.pem`");
}

#[tokio::test]
async fn a_lost_server_is_reported_and_found_again() {
    let mut server = RedisServer::start(Keeps::Nothing, &[]);
    let redis = redis(&server.url(0));
    assert_eq!((ping(&redis).await.unwrap().as_str(), redis.connections()), ("PONG", 1));
    server.kill();
    let first = ping(&redis).await.unwrap_err();
    assert!(matches!(first, RedisProblem::Away(_)), "{first:?}");
    let away = ping(&redis).await.unwrap_err();
    assert!(away.to_string().contains("connection refused"), "{away}");
    assert_eq!(redis.problem(), Some(away));
    server.start_again();
    let begun = Instant::now();
    while ping(&redis).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "not found again");
        tokio::task::yield_now().await;
    }
    assert_eq!((redis.connections(), redis.problem()), (2, None));
}

#[tokio::test]
async fn a_server_that_is_frozen_is_not_waited_for() {
    let server = RedisServer::start(Keeps::Nothing, &[]);
    let redis = redis(&server.url(0));
    ping(&redis).await.unwrap();
    server.freeze();
    let begun = Instant::now();
    let away = ping(&redis).await.unwrap_err();
    assert!(matches!(&away, RedisProblem::Away(text) if text.contains("no answer in time")), "{away:?}");
    assert!(begun.elapsed() < COMMAND_MAX * 2, "{:?}", begun.elapsed());
    server.thaw();
}

#[tokio::test]
async fn scripts_are_loaded_where_they_are_not_known() {
    let redis = redis(&shared().url(0));
    let script = ::redis::Script::new("return {KEYS[1], ARGV[1]}");
    for _ in 0..2 {
        let answer: (String, u32) = redis.script(script.key("scripted").arg(7)).await.unwrap();
        assert_eq!(answer, ("scripted".to_owned(), 7));
        let () = redis.query(::redis::cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_of_another_type_is_named() {
    let redis = redis(&shared().url(0));
    let () = redis.query(::redis::cmd("RPUSH").arg("a-list").arg(1)).await.unwrap();
    let script = ::redis::Script::new("return redis.call('XLEN', KEYS[1])");
    let plain = redis.query::<u64>(::redis::cmd("XLEN").arg("a-list")).await.unwrap_err();
    let scripted = redis.script::<u64>(&script.key("a-list")).await.unwrap_err();
    for problem in [plain, scripted] {
        assert!(problem.is("WRONGTYPE"), "{problem:?}");
    }
    let problem = redis.explain_type(&[("no-key", "stream"), ("a-list", "stream")]).await;
    refused(problem, "key `a-list` is a list, expected a stream");
}

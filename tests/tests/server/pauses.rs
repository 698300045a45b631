//! What stands still while a handler is paused, by whom it is, and what becomes of its events; and where subscriptions begin.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::{Server, Site, event};
use weir_tests::smtp::{Options, SmtpServer};

use crate::{handler, keyed, one_handler, stream};

fn state(server: &Server) -> (Value, Value) {
    let it = server.handler("it");
    (it["state"].clone(), it["paused_by"].clone())
}

fn ended(server: &Server, state: &str) -> u64 {
    server.metrics().sum("weir_events_ended_total", &[("state", state)])
}

/// The relay is away for longer than all attempts with their waits would last.
#[test]
fn a_relay_that_is_away_pauses_its_handler_until_it_is_back() {
    const MAILS: u64 = 10;
    let name = "a_relay_that_is_away_pauses_its_handler";
    if SmtpServer::start(name, Options::default()).is_none() {
        return;
    }
    for url in ["disk:./data/events", &stream(name)] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let relay = format!("smtp://127.0.0.1:{port}?tls=none");
        let grant = format!("email = {{ relay = \"{relay}\", from = \"qa@example.com\", to = [\"*@example.com\"] }}");
        let retry = "attempts = 2\nbackoff = \"10ms..20ms\"\npause-after = 3";
        let more = format!("concurrency = 2\n[handler.it.grants]\n{grant}\n[handler.it.retry]\n{retry}\n");
        let site = Site::new(&one_handler(url, guests::SERVER_MAIL, &more));
        let server = site.start();
        let mails: Vec<Value> = (0..MAILS).map(|at| event(&at.to_string(), &json!(format!("person{at}@example.com")))).collect();
        assert_eq!(server.publish_batch("events", &mails).status, 202);
        server.eventually("it is paused", |server| state(server) == (json!("paused"), json!("breaker")));
        let it = server.handler("it");
        assert!(it["until"].is_string(), "{it}");
        let table = site.run(&["handlers"]).ending(0).stdout;
        assert!(table.contains("paused (breaker"), "{table}");
        let hosts = |server: &Server| server.handler("it")["outcomes"]["host"].as_u64().unwrap();
        let at_pause = hosts(&server);
        server.eventually("it is probed, and nothing else is tried", |server| hosts(server) > at_pause);
        assert!(hosts(&server) <= at_pause + 2, "{url}: one event a probe");
        assert_eq!(server.metrics().sum("weir_events_ended_total", &[]), 0, "{url}");
        let smtp = SmtpServer::start(name, Options { port, ..Options::default() }).unwrap();
        server.ended(MAILS);
        assert_eq!((ended(&server, "acked"), server.dead().len()), (MAILS, 0), "{url}");
        assert_eq!(state(&server), (json!("running"), Value::Null), "{url}");
        let mut to: Vec<String> = smtp.messages().into_iter().flat_map(|mail| mail.to).collect();
        to.sort();
        let expected: Vec<String> = (0..MAILS).map(|at| format!("person{at}@example.com")).collect();
        assert_eq!(to, expected, "{url}: each mail was sent, and once");
        let told = server.stop().with("event will be tried again");
        assert!(told.iter().all(|line| line["attempt"] == 1), "{url}: no attempt was lost");
    }
}

#[test]
fn nothing_is_pulled_while_an_operator_has_paused() {
    for url in ["memory:", "disk:./data/events", &stream("nothing_is_pulled")] {
        let site = Site::new(&one_handler(url, guests::SERVER_SLOW, "duplicates = \"10m\"\n"));
        let server = site.start();
        server.accept("events", "1", &json!(1_000));
        server.eventually("it runs", |server| server.metrics().sum("weir_events_in_flight", &[]) == 1);
        server.accept("events", "1", &json!(0));
        server.eventually("its copy is parked", |server| server.metrics().sum("weir_events_parked", &[]) == 1);
        let _ = site.run(&["handlers", "pause", "it"]).ending(0);
        server.eventually("what is parked goes back", |server| {
            let metrics = server.metrics();
            metrics.sum("weir_events_returned_total", &[]) == 1 && metrics.sum("weir_events_parked", &[]) == 0
        });
        server.ended(1);
        server.accept("events", "2", &json!(0));
        assert_eq!((ended(&server, "acked"), server.metrics().sum("weir_events_in_flight", &[])), (1, 0), "{url}");
        let _ = site.run(&["handlers", "resume", "it"]).ending(0);
        server.ended(3);
        assert_eq!((ended(&server, "acked"), ended(&server, "duplicate")), (2, 1), "{url}");
        assert_eq!(server.stop().events("attempt 1").len(), 2, "{url}");
    }
}

/// What is parked in its lane is held: nothing passes it.
#[test]
fn order_is_kept_over_a_pause() {
    for url in ["disk:./data/events", &stream("order_is_kept_over_a_pause")] {
        let site = Site::new(&one_handler(url, guests::SERVER_SLOW, "order-by = \"subject\"\n"));
        let server = site.start();
        for at in 0..20 {
            server.publish("events", &keyed(&at.to_string(), "a", &json!(50)));
        }
        server.eventually("some have ended", |server| server.metrics().sum("weir_events_ended_total", &[]) >= 3);
        let _ = site.run(&["handlers", "pause", "it"]).ending(0);
        server.eventually("nothing runs", |server| server.metrics().sum("weir_events_in_flight", &[]) == 0);
        let paused_at = server.metrics().sum("weir_events_ended_total", &[]);
        assert!(paused_at < 20, "{url}");
        let _ = site.run(&["handlers", "resume", "it"]).ending(0);
        server.ended(20);
        let order = server.stop().events("slept");
        assert_eq!(order, (0..20).map(|at| at.to_string()).collect::<Vec<_>>(), "{url}");
    }
}

#[test]
fn servers_that_share_a_store_follow_a_pause() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let queue = format!("{}?stream=events", redis.url(0));
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nstore = \"{}\"\n{}",
        redis.url(1),
        one_handler(&queue, guests::SERVER_LOG, "")
    );
    let sites = [Site::new(&config), Site::new(&config)];
    let [one, two] = [sites[0].start(), sites[1].start()];
    let asked = Instant::now();
    let _ = sites[0].run(&["handlers", "pause", "it"]).ending(0);
    two.eventually("the other follows", |server| state(server) == (json!("paused"), json!("operator")));
    one.accept("events", "1", &Value::Null);
    assert_eq!(ended(&one, "acked") + ended(&two, "acked"), 0);
    let _ = sites[1].run(&["handlers", "resume", "it"]).ending(0);
    one.eventually("the first follows", |server| state(server) == (json!("running"), Value::Null));
    assert!(asked.elapsed() < Duration::from_secs(10), "each within five seconds: {:?}", asked.elapsed());
    one.eventually("the event is handled", |one| ended(one, "acked") + ended(&two, "acked") == 1);
}

/// A handler that is added later begins as its queue says: with what comes, or with what is still there.
#[test]
fn a_subscription_begins_with_what_is_new_or_with_all() {
    for (start, sees) in [("new", 1), ("all", 4)] {
        for url in ["disk:./data/events", &stream(&format!("a_subscription_begins_{start}"))] {
            let queue = format!("[queue.events]\nurl = \"{url}\"\nstart = \"{start}\"\n");
            let first = handler("first", guests::SERVER_LOG, "paused = true");
            let site = Site::new(&format!("{queue}{first}"));
            let server = site.start();
            for at in 0..3 {
                server.accept("events", &at.to_string(), &Value::Null);
            }
            let _ = server.stop();
            site.configure(&format!("{queue}{first}{}", handler("it", guests::SERVER_LOG, "")));
            let server = site.start();
            server.accept("events", "3", &Value::Null);
            server.ended(sees);
            let depth = server.get("/api/queues").body[0].clone();
            let of = |name: &str| {
                let all = depth["subscriptions"].as_array().unwrap();
                all.iter().find(|one| one["handler"] == name).unwrap()["depth"].clone()
            };
            assert_eq!((of("first"), of("it")), (json!(4), json!(0)), "{url} {start}: {depth}");
        }
    }
}

/// What waits for another try in its lane goes back at a stop as it was: its tries stay, and it waits no longer.
#[test]
fn what_is_parked_survives_an_orderly_stop() {
    for url in ["disk:./data/events", &stream("what_is_parked_survives")] {
        let more = "order-by = \"subject\"\nretry = { attempts = 3, backoff = \"1h..1h\" }\n";
        let site = Site::new(&one_handler(url, guests::SERVER_UNTIL, more));
        let server = site.start();
        for at in 1..=3 {
            server.publish("events", &keyed(&at.to_string(), "a", &json!(if at == 1 { 2 } else { 1 })));
        }
        server.eventually("all are parked", |server| server.metrics().sum("weir_events_parked", &[]) == 3);
        let _ = server.stop();
        let server = site.start();
        server.ended(3);
        assert_eq!((ended(&server, "acked"), server.dead().len()), (3, 0), "{url}");
        let log = server.stop();
        assert_eq!(log.events("attempt "), ["1", "2", "3"], "{url}");
        assert_eq!(log.events("attempt 2 left 1"), ["1"], "{url}");
    }
}

/// A handler of two queues, whose dead letters each keeps by itself.
#[test]
fn what_one_queue_waits_for_is_not_ended_by_another() {
    let (broken, good) = (RedisServer::start(Keeps::Nothing, &[]), RedisServer::start(Keeps::Nothing, &[]));
    let queue = |name: &str, redis: &RedisServer| format!("[queue.{name}]\nurl = \"{}?stream={name}\"\n", redis.url(0));
    let site = Site::new(&format!(
        "{}{}[handler.it]\ncomponent = \"{}\"\nqueue = [\"a\", \"b\"]\nretry.attempts = 1\nlimits.deadline = \"1s\"\n",
        queue("a", &broken),
        queue("b", &good),
        guests::SERVER_SLOW
    ));
    let server = site.start();
    server.accept("b", "second", &json!(600_000));
    server.eventually("it runs", |server| server.metrics().sum("weir_events_in_flight", &[]) == 1);
    // Its letter comes first, and can't be written.
    assert!(broken.ask(&["ACL", "SETUSER", "default", "-hset"]).starts_with("+OK"));
    server.accept("a", "first", &json!("no number"));
    server.eventually("it waits", |server| state(server) == (json!("paused"), json!("load")));
    server.eventually("the other letter is written", |server| {
        server.metrics().sum("weir_events_ended_total", &[("queue", "b")]) == 1
    });
    assert_eq!(state(&server), (json!("paused"), json!("load")));
    assert!(broken.ask(&["ACL", "SETUSER", "default", "+hset"]).starts_with("+OK"));
    server.ended(2);
    server.eventually("it goes on", |server| state(server) == (json!("running"), Value::Null));
    assert_eq!(server.dead().len(), 2);
}

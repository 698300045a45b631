//! What becomes of dead letters: tried with a fix, replayed, dropped.

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Server, Site, read};

use crate::{handler, one_handler};

const ONCE: &str = "retry.attempts = 1\n";

/// A handler that may mail into a folder, and is tried once.
fn mailing() -> String {
    let grant = "email = { relay = \"file:./outbox\", from = \"QA <qa@example.com>\", to = [\"*@example.com\"] }";
    format!("{ONCE}[handler.it.grants]\n{grant}\n")
}

fn ids(server: &Server) -> Vec<String> {
    server.dead().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

fn mails(site: &Site) -> usize {
    std::fs::read_dir(site.path("outbox")).map_or(0, Iterator::count)
}

#[test]
fn a_fix_is_tried_deployed_and_replayed() {
    for url in ["memory:", "disk:./data/events"] {
        let site = Site::new(&one_handler(url, "handler.wasm", &mailing()));
        site.write("handler.wasm", &read(guests::OUTCOME_PANIC.as_ref()));
        let server = site.start();
        server.accept("events", "1", &json!("ann@example.com"));
        server.ended(1);
        let id = ids(&server).remove(0);

        let broken = site.run(&["try", &id, "--json"]).ending(1).json();
        assert_eq!((&broken["outcome"], &broken["mails"]), (&json!("trap"), &json!([])), "{broken}");
        let fixed = site.run(&["try", &id, guests::SERVER_MAIL, "--json"]).ending(0).json();
        assert_eq!((&fixed["outcome"], &fixed["reason"], &fixed["limit"]), (&json!("done"), &Value::Null, &Value::Null));
        assert_eq!(fixed["mails"][0]["to"], json!(["ann@example.com"]), "{fixed}");
        assert!(fixed["log"].as_str().unwrap().contains("mailed <"), "{fixed}");
        let told = site.run(&["try", &id, guests::SERVER_MAIL]).ending(0).stdout;
        assert!(told.contains("outcome  done\n") && told.contains("mail 1 of 1:\n  From: QA <qa@example.com>\n"), "{told}");
        assert_eq!(mails(&site), 0, "{url}: a trial sends nothing");
        assert_eq!(ids(&server), [id.as_str()], "{url}: a trial changes nothing");

        site.replace("handler.wasm", &read(guests::SERVER_MAIL.as_ref()));
        server.eventually("the fix runs", |server| server.handler("it")["version"] == fixed["version"]);
        assert_eq!(site.run(&["dead", "replay", &id]).ending(0).stdout, "replayed 1\n");
        server.ended(2);
        assert_eq!((mails(&site), ids(&server).len()), (1, 0), "{url}");
        assert_eq!(server.handler("it")["ended"]["acked"], 1);
        let again = site.run(&["dead", "replay", &id]).ending(1);
        assert!(again.stderr.contains(&format!("dead letter `{id}` is not known")), "{again:?}");
    }
}

#[test]
fn a_replay_keeps_its_event_and_begins_at_the_first_attempt() {
    let site =
        Site::new(&one_handler("memory:", guests::SERVER_UNTIL, "[handler.it.retry]\nattempts = 2\nbackoff = \"1ms..2ms\"\n"));
    let server = site.start();
    server.accept("events", "1", &json!(99));
    server.ended(1);
    let before = server.dead().remove(0);
    let id = before["id"].as_str().unwrap();
    let replayed = server.post(&format!("/api/dead/{id}/replay"), "", "");
    assert_eq!((replayed.status, replayed.body), (200, json!({"id": id, "queue": "events", "handler": "it"})));
    server.ended(2);
    let after = server.dead().remove(0);
    assert_eq!((&after["attempts"], &after["event"]["source"]), (&json!(2), &before["event"]["source"]), "{after}");
    assert_eq!((&after["event"]["id"], &after["event"]["data"]), (&json!("1"), &json!(99)));
    let log = server.stop();
    let attempts: Vec<u64> = log.with("attempt ").iter().filter_map(|line| line["attempt"].as_u64()).collect();
    assert_eq!(attempts.iter().filter(|attempt| **attempt == 1).count(), 2, "{attempts:?}");
}

#[test]
fn letters_are_dropped_by_id_and_by_filter() {
    let queue = "[queue.events]\nurl = \"disk:./data/events\"\n";
    let config = format!("{queue}{}{}", handler("a", guests::OUTCOME_REJECT, ""), handler("b", guests::OUTCOME_PANIC, ONCE));
    let site = Site::new(&config);
    let server = site.start();
    for at in 0..5 {
        server.accept("events", &at.to_string(), &json!(at));
    }
    server.ended(10);
    for verb in ["drop", "replay"] {
        let nothing = site.run(&["dead", verb]).ending(2);
        assert!(nothing.stderr.contains("--all") && nothing.stdout.is_empty(), "{nothing:?}");
    }
    assert_eq!(site.run(&["dead", "drop", "--older-than", "1h"]).ending(0).stdout, "dropped 0\n");
    assert_eq!(ids(&server).len(), 10);
    let first = ids(&server).remove(0);
    let some = site.run(&["dead", "drop", &first, "nonsense", "--json"]).ending(1).json();
    assert_eq!((&some["dropped"], &some["failed"][0]["id"]), (&json!(1), &json!("nonsense")), "{some}");
    assert!(site.run(&["dead", "drop", "nonsense"]).ending(1).stderr.contains("`nonsense` is not known"));
    let dropped = site.run(&["dead", "drop", "--handler", "a", "--reason", "no such account"]).ending(0).stdout;
    assert!(dropped == "dropped 5\n" || dropped == "dropped 4\n", "{dropped}");
    assert!(server.dead().iter().all(|letter| letter["handler"] == "b"));
    assert_eq!(server.metrics().sum("weir_dead_letters", &[("queue", "events")]), ids(&server).len() as u64);
    let paged = site.run(&["dead", "list", "--json", "--limit", "3"]).ending(0);
    assert!(paged.json_lines().len() == 3 && paged.stderr.contains("there are more"), "{paged:?}");
    let _ = server.stop();
    // The same without a server.
    let left = site.run(&["dead", "list", "--json"]).ending(0).json_lines().len();
    let dropped = site.run(&["dead", "drop", "--all"]).ending(0);
    assert_eq!(dropped.stdout, format!("dropped {left}\n"));
    assert_eq!(site.run(&["dead", "list", "--json"]).ending(0).stdout, "");
}

#[test]
fn a_replay_goes_to_a_handler_that_is_there() {
    let queue = "[queue.events]\nurl = \"disk:./data/events\"\n";
    let site = Site::new(&format!("{queue}{}", handler("old", guests::OUTCOME_REJECT, "")));
    let server = site.start();
    for at in 0..3 {
        server.accept("events", &at.to_string(), &Value::Null);
    }
    server.ended(3);
    let ids = ids(&server);
    let _ = server.stop();

    let config = format!("{queue}{}", handler("new", guests::SERVER_LOG, ""));
    site.configure(&config);
    let refused = |id: &str, more: &[&str]| {
        let ran = site.run(&[&["dead", "replay", id], more].concat()).ending(2);
        assert!(ran.stdout.is_empty() && ran.stderr.contains("is not defined (known: `new`"), "{ran:?}");
    };
    // Straight from the store into the queue.
    refused(&ids[0], &[]);
    refused(&ids[0], &["--handler", "nobody"]);
    assert_eq!(site.run(&["dead", "replay", &ids[0], "--handler", "new"]).ending(0).stdout, "replayed 1\n");
    let server = site.start();
    refused(&ids[1], &[]);
    refused(&ids[1], &["--handler", "nobody"]);
    let answer = server.post(&format!("/api/dead/{}/replay", ids[1]), "", "");
    assert!(answer.status == 409 && answer.error().contains("known: `new`"), "{answer:?}");
    // All that the old one gave up, to the new one.
    assert_eq!(site.run(&["dead", "replay", "--handler", "old", "--to", "new"]).ending(0).stdout, "replayed 2\n");
    server.ended(3);
    assert_eq!((server.handler("new")["ended"]["acked"].clone(), server.dead().len()), (json!(3), 0));
}

#[test]
fn the_publish_token_replays_and_drops_nothing() {
    let config = "[server]\nlisten = \"127.0.0.1:0\"\ntoken = \"full\"\npublish-token = \"pub\"\n".to_owned();
    let site = Site::new(&format!("{config}{}", one_handler("memory:", guests::OUTCOME_REJECT, "")));
    let mut server = site.start();
    server.token = Some("full".to_owned());
    let run = |token: &str, args: &[&str]| site.command(args).env("WEIR_TOKEN", token).output().unwrap();
    assert!(run("pub", &["publish", "events", "--type", "t"]).status.success());
    server.ended(1);
    let id = ids(&server).remove(0);
    for args in [&["dead", "replay", &id][..], &["dead", "drop", &id], &["handlers", "pause", "it"], &["handlers", "forget", "x"]]
    {
        let refused = run("pub", args);
        assert_eq!(refused.status.code(), Some(1), "{args:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("WEIR_TOKEN"), "{args:?}: {refused:?}");
    }
    assert_eq!((ids(&server), server.handler("it")["state"].clone()), (vec![id.clone()], json!("running")));
    assert!(run("full", &["dead", "drop", &id]).status.success());
    assert!(ids(&server).is_empty());
}

#[test]
fn a_replay_is_for_the_addressed_handler_alone() {
    for url in ["memory:", "disk:./data/events"] {
        // Its filter would not let the event through; a replay is not filtered.
        let config = format!(
            "[queue.events]\nurl = \"{url}\"\n{}{}{}",
            handler("a", guests::OUTCOME_REJECT, ""),
            handler("b", guests::SERVER_LOG, ""),
            handler("c", guests::SERVER_LOG, "filter = \"type = 'never'\""),
        );
        let site = Site::new(&config);
        let server = site.start();
        server.accept("events", "1", &Value::Null);
        server.ended(3);
        let ended = |server: &Server, name: &str| server.handler(name)["ended"].clone();
        let counts = |acked: u64, dead: u64, filtered: u64| json!({"acked": acked, "dead": dead, "filtered": filtered, "expired": 0, "duplicate": 0});
        assert_eq!(
            [ended(&server, "a"), ended(&server, "b"), ended(&server, "c")],
            [counts(0, 1, 0), counts(1, 0, 0), counts(0, 0, 1)]
        );
        let id = ids(&server).remove(0);
        // To its own handler, which gives it up once more; the others see it pass.
        assert_eq!(site.run(&["dead", "replay", &id]).ending(0).stdout, "replayed 1\n");
        server.ended(6);
        assert_eq!(
            [ended(&server, "a"), ended(&server, "b"), ended(&server, "c")],
            [counts(0, 2, 0), counts(1, 0, 1), counts(0, 0, 2)]
        );
        let again = ids(&server).remove(0);
        assert_ne!(again, id, "{url}: another delivery, another letter");
        assert_eq!(site.run(&["dead", "replay", &again, "--handler", "c"]).ending(0).stdout, "replayed 1\n");
        server.ended(9);
        assert_eq!(
            [ended(&server, "a"), ended(&server, "b"), ended(&server, "c")],
            [counts(0, 2, 1), counts(1, 0, 2), counts(1, 0, 2)]
        );
        assert!(ids(&server).is_empty(), "{url}");
    }
}

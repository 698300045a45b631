//! Programs that were not written for Weir, in the whole server: what each end comes to for its event.

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Server, Site, event};

use crate::{handler, one_handler};

const RETRY: &str = "[handler.it.retry]\nattempts = 2\ntrap = 1\nbackoff = \"1ms..2ms\"\n";

/// An event that says to `command_ways` what to do.
fn ways(id: &str, words: &str, line: Option<&str>, code: &str) -> Value {
    let mut event = event(id, &json!("text"));
    event["subject"] = json!(words);
    event["datacontenttype"] = json!(code);
    if let Some(line) = line {
        event["dataschema"] = json!(line);
    }
    event
}

fn ended(server: &Server, state: &str) -> u64 {
    server.metrics().sum("weir_events_ended_total", &[("state", state)])
}

/// The same ends for a component and for a core module.
#[test]
fn commands_end_as_their_code_or_their_last_line_says() {
    for guest in [guests::COMMAND_WAYS, guests::MODULE_WAYS] {
        let site = Site::new(&one_handler("disk:./data/events", guest, RETRY));
        let server = site.start();
        let events = [
            ways("done", "a warning", None, "0"),
            ways("reject", "no such order", None, "65"),
            ways("retry", "not yet", None, "75"),
            ways("fails", "no such file", None, "3"),
            ways("line", "words", Some("reject"), "0"),
        ];
        for event in &events {
            assert_eq!(server.publish("events", event).status, 202);
        }
        server.ended(5);
        assert_eq!((ended(&server, "acked"), ended(&server, "dead")), (1, 4), "{guest}");
        server.metrics().assert_identity();
        let letters = server.dead();
        let letter = |id: &str| letters.iter().find(|letter| letter["event"]["id"] == id).unwrap();
        for (id, outcome, attempts, reason) in [
            ("reject", "reject", 1, "no such order"),
            ("retry", "retry", 2, "not yet"),
            ("fails", "trap", 1, "exit code 3: no such file"),
            ("line", "reject", 1, "no such account"),
        ] {
            let found = letter(id);
            let told = (&found["outcome"], &found["attempts"], &found["reason"]);
            assert_eq!(told, (&json!(outcome), &json!(attempts), &json!(reason)), "{guest}: {found}");
            assert!(found["log"].as_str().unwrap().contains("began\n"), "{found}");
        }
        let _ = server.stop();
    }
}

/// What a command publishes leaves if it ends well, and never else.
#[test]
fn a_command_publishes_with_its_ack_or_never() {
    let config = format!(
        "[queue.events]\nurl = \"memory:\"\n[queue.copies]\nurl = \"memory:\"\n{}",
        handler(
            "it",
            guests::COMMAND_PUBLISH,
            &format!("filter = \"type <> 'copy'\"\n[handler.it.grants]\npublish = [\"events\"]\n{RETRY}")
        )
    );
    let site = Site::new(&config);
    let server = site.start();
    for (id, code) in [("done", "0"), ("reject", "65"), ("retry", "75"), ("fails", "3")] {
        assert_eq!(server.publish("events", &ways(id, "words", None, code)).status, 202);
    }
    // Four, and one copy that the filter ends.
    server.ended(5);
    assert_eq!(ended(&server, "filtered"), 1);
    server.metrics().assert_identity();
}

/// Limits bind in the server as in the suites of the sandbox.
#[test]
fn limits_bind_commands() {
    for guest in [guests::COMMAND_LOOP, guests::MODULE_LOOP] {
        let site = Site::new(&one_handler("memory:", guest, &format!("limits.fuel = 100_000\n{RETRY}")));
        let server = site.start();
        server.accept("events", "1", &json!(1));
        server.ended(1);
        let letter = server.dead().remove(0);
        assert_eq!(
            (&letter["outcome"], &letter["limit"]),
            (&json!("fuel"), &json!({"name": "fuel", "value": 100_000})),
            "{letter}"
        );
    }
}

#[test]
fn check_inspect_and_try_know_commands() {
    for (guest, kind) in [(guests::COMMAND_ECHO, "component"), (guests::MODULE_ECHO, "module")] {
        let site = Site::new(&one_handler("memory:", guest, "run = \"command\""));
        assert!(site.run(&["check"]).ending(0).stdout.contains(", runs as command\n"));
        assert_eq!(site.run(&["check", "--json"]).ending(0).json()["handlers"][0]["run"], "command");
        let found = site.run(&["inspect", "--json", guest]).ending(0).json();
        assert_eq!((&found["kind"], &found["run"]), (&json!(kind), &json!("command")));
        assert!(site.run(&["inspect", guest]).ending(0).stdout.contains("runs as command\n"));
        site.write("event.json", event("1", &json!({"total": 1.5})).to_string().as_bytes());
        let tried = site.run(&["try", "event.json"]).ending(0);
        assert!(format!("{}{}", tried.stdout, tried.stderr).contains("\"id\":\"1\""), "{tried:?}");
        for (more, expected) in [
            ("run = \"handler\"", "`run = \"handler\"` is for components that export that"),
            ("batch = { size = 4 }", "`batch` is for components that export that"),
            ("run = \"command\"\nbatch = { size = 4 }", "`run = \"command\"` takes one event a call"),
        ] {
            site.configure(&one_handler("memory:", guest, more));
            let ran = site.run(&["check"]).ending(2);
            assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        }
    }
    let text = Site::new("").run(&["inspect", guests::LOAD_CARRIES_HANDLER]).ending(0).stdout;
    assert!(text.contains(": component (made of a core module), ") && text.contains("runs as handler\n"), "{text}");
}

/// A core module takes the place of a component, and the other way round, while the server runs.
#[test]
fn a_reload_changes_the_kind_of_program() {
    let site = Site::new(&one_handler("memory:", "it.wasm", RETRY));
    let copy = |guest: &str| site.replace("it.wasm", &std::fs::read(guest).unwrap());
    copy(guests::COMMAND_ECHO);
    let server = site.start();
    for (at, guest) in [guests::MODULE_ECHO, guests::OUTCOME_DONE, guests::COMMAND_ECHO, guests::MODULE_ECHO].iter().enumerate() {
        let before = server.handler("it")["version"].clone();
        copy(guest);
        server.eventually("another version runs", |server| server.handler("it")["version"] != before);
        server.accept("events", &at.to_string(), &json!(at));
        server.ended(at as u64 + 1);
    }
    assert_eq!(ended(&server, "acked"), 4);
}

//! What an operator changes about handlers while the server runs: pauses, and the end of what nobody reads.

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Server, Site};

use crate::{handler, one_handler};

fn state(server: &Server) -> (Value, Value) {
    let it = server.handler("it");
    (it["state"].clone(), it["paused_by"].clone())
}

#[test]
fn a_pause_by_hand_outlives_a_restart() {
    let site = Site::new(&one_handler("disk:./data/events", guests::SERVER_LOG, ""));
    let server = site.start();
    let told = site.run(&["handlers", "pause", "it", "--json"]).ending(0).json();
    assert_eq!((&told["state"], &told["paused_by"], &told["until"]), (&json!("paused"), &json!("operator"), &Value::Null));
    assert_eq!(state(&server), (json!("paused"), json!("operator")));
    server.accept("events", "1", &Value::Null);
    let table = site.run(&["handlers"]).ending(0).stdout;
    assert!(table.contains("paused (operator)"), "{table}");
    let _ = server.stop();
    let server = site.start();
    server.eventually("the pause is followed", |server| state(server) == (json!("paused"), json!("operator")));
    assert_eq!(server.get("/api/queues").body[0]["depth"], 1, "nothing was pulled");
    assert_eq!(server.handler("it")["ended"]["acked"], 0);
    assert!(site.run(&["handlers", "resume", "it"]).ending(0).stdout.contains("running"));
    server.ended(1);
    assert_eq!(state(&server), (json!("running"), Value::Null));
    for verb in ["pause", "resume", "forget"] {
        let unknown = site.run(&["handlers", verb, "nobody"]).ending(2);
        assert!(unknown.stderr.contains("`nobody`"), "{unknown:?}");
    }
}

#[test]
fn a_pause_in_the_configuration_is_lasting() {
    let site = Site::new(&one_handler("memory:", guests::SERVER_LOG, "paused = true"));
    let server = site.start();
    assert_eq!(state(&server), (json!("paused"), json!("config")));
    let refused = site.run(&["handlers", "resume", "it"]).ending(2);
    assert!(refused.stderr.contains("paused = true"), "{refused:?}");
    assert_eq!(state(&server), (json!("paused"), json!("config")));
}

#[test]
fn what_a_removed_handler_left_is_forgotten() {
    let queue = "[queue.events]\nurl = \"disk:./data/events\"\n";
    let it = handler("it", guests::SERVER_LOG, "");
    let site = Site::new(&format!("{queue}{it}{}", handler("gone", guests::SERVER_LOG, "")));
    let server = site.start();
    let configured = site.run(&["handlers", "forget", "gone"]).ending(2);
    assert!(configured.stderr.contains("is defined in weir.toml"), "{configured:?}");
    let _ = server.stop();
    site.configure(&format!("{queue}{it}"));
    let server = site.start();
    for at in 0..3 {
        server.accept("events", &at.to_string(), &Value::Null);
    }
    server.ended(3);
    let queues = site.run(&["queues"]).ending(0).stdout;
    assert!(queues.contains("weir handlers forget gone"), "{queues}");
    let forgotten = site.run(&["handlers", "forget", "gone", "--json"]).ending(0).json();
    assert_eq!(forgotten, json!({"forgotten": [{"queue": "events", "events": 3}]}));
    let events = server.get("/api/queues").body[0].clone();
    assert_eq!((&events["depth"], events["subscriptions"].as_array().unwrap().len()), (&json!(0), 1), "{events}");
    assert!(site.run(&["handlers", "forget", "gone"]).ending(2).stderr.contains("no queue has a subscription"));
}

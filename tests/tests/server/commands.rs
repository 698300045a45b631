//! The commands as scripts use them: exit codes, and JSON with exactly the fields of surface.md §3.

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Site, read};

use crate::one_handler;

const QUEUE: &str = "[queue.events]\nurl = \"disk:./data/events\"\ntype = \"com.example.raw\"\n";

#[track_caller]
fn check_keys(value: &Value, expected: &str) {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let mut wanted: Vec<&str> = expected.split_whitespace().collect();
    wanted.sort_unstable();
    assert_eq!(keys, wanted, "{value}");
}

fn sha256(text: &Value) -> bool {
    let digits = text.as_str().and_then(|text| text.strip_prefix("sha256:"));
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[test]
fn publish_one_through_a_server() {
    let site = Site::new(&one_handler("disk:./data/events", guests::SERVER_LOG, ""));
    let server = site.start();
    let ran = site.run(&[
        "publish",
        "events",
        "--type",
        "t",
        "--id",
        "own",
        "--subject",
        "s",
        "--ext",
        "tier=gold",
        "--data",
        "[1.50]",
    ]);
    let ran = ran.ending(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("accepted own\n", ""));
    let told = site.run(&["publish", "events", "--type", "t", "--json"]).ending(0).json();
    check_keys(&told, "accepted ids");
    assert_eq!((&told["accepted"], told["ids"].as_array().unwrap().len()), (&json!(1), 1));
    // A fresh UUIDv7.
    assert_eq!(told["ids"][0].as_str().unwrap().as_bytes()[14], b'7', "{told}");
    site.write("data.json", b"{\"from\": \"a file\"}");
    let _ = site.run(&["publish", "events", "--type", "t", "--data-file", "data.json", "--source", "/own"]).ending(0);
    server.ended(3);
    for (args, expected) in [
        (&["publish", "events", "--data", "{}"][..], "--type"),
        (&["publish", "evnts", "--type", "t"], "evnts"),
        (&["publish", "events", "--type", "t", "--data", "{"], "not JSON"),
        (&["publish", "events", "--type", "t", "--ext", "weirhops=1"], "weirhops"),
        (&["publish", "events", "--type", "t", "--delay", "10"], "--delay"),
        (&["publish", "pulsar://h/events", "--type", "t"], "not in this version yet"),
    ] {
        let ran = site.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(expected), "{args:?}: {ran:?}");
    }
    let delayed = ["publish", "events", "--type", "t", "--id", "later", "--delay", "1s"];
    let begun = std::time::Instant::now();
    let _ = site.run(&delayed).ending(0);
    server.ended(4);
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1));
}

#[test]
fn publish_lines_until_one_cannot_be_taken() {
    let site = Site::new(&one_handler("disk:./data/events", guests::SERVER_LOG, ""));
    let server = site.start();
    let lines =
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}\n\n{\"any\": \"object\"}\nno object\n{}\n";
    let ran = site.run_with(&["publish", "events", "--stdin"], lines).ending(1);
    assert_eq!(ran.stdout, "accepted 2\n");
    assert!(ran.stderr.contains("line 4") && ran.stderr.contains("2 events before it were accepted"), "{}", ran.stderr);
    let many: String = (0..5_000).map(|at| format!("{{\"n\":{at}}}\n")).collect();
    let told = site.run_with(&["publish", "events", "--stdin", "--json"], &many).ending(0).json();
    check_keys(&told, "accepted ids");
    assert_eq!((&told["accepted"], told["ids"].as_array().unwrap().len()), (&json!(5_000), 5_000));
    server.ended(5_002);
}

#[test]
fn publish_without_a_server_opens_the_queue() {
    let site = Site::new(QUEUE);
    let ran = site.run(&["publish", "events", "--type", "t", "--id", "1"]).ending(0);
    assert_eq!(ran.stdout, "accepted 1\n");
    assert!(ran.stderr.contains("directly") && ran.stderr.contains("data/events"), "{}", ran.stderr);
    let url = format!("disk:{}", site.path("data/events").display());
    let ran = site.run_with(&["publish", &url, "--stdin"], "{\"n\":1}\n{\"n\":2}\n").ending(0);
    assert_eq!(ran.stdout, "accepted 2\n");
    // Nothing listens: what is kept waits for the first handler.
    assert_eq!(site.run(&["queues", "--json"]).ending(0).json()[0]["depth"], 3);
    site.configure(&format!("{QUEUE}{}", crate::handler("it", guests::SERVER_LOG, "")));
    let server = site.start();
    server.ended(3);
    // A memory queue lives in its server.
    let site = Site::new("[queue.events]\nurl = \"memory:\"\n");
    let ran = site.run(&["publish", "events", "--type", "t"]).ending(1);
    assert!(ran.stderr.contains("memory:"), "{}", ran.stderr);
}

#[test]
fn queues_and_handlers_have_their_fields() {
    let site = Site::new(&format!("{QUEUE}{}", crate::handler("it", guests::SERVER_LOG, "")));
    let server = site.start();
    server.accept("events", "1", &Value::Null);
    server.ended(1);
    let queues = site.run(&["queues", "--json"]).ending(0).json();
    assert_eq!(queues, server.get("/api/queues").body);
    check_keys(&queues[0], "name adapter url guarantee connected error depth bytes ingress subscriptions");
    check_keys(&queues[0]["subscriptions"][0], "handler depth lag_seconds in_flight parked orphan");
    assert_eq!((&queues[0]["adapter"], &queues[0]["guarantee"]), (&json!("disk"), &json!("at-least-once")));
    let handlers = site.run(&["handlers", "--json"]).ending(0).json();
    assert_eq!(handlers, server.get("/api/handlers").body);
    let it = &handlers[0];
    let fields =
        "name queue state paused_by until version loaded_at previous in_flight parked ended returned outcomes fuel memory error";
    check_keys(it, fields);
    check_keys(&it["ended"], "acked dead filtered expired duplicate");
    check_keys(&it["outcomes"], "done retry reject trap fuel memory deadline output host load lost");
    check_keys(&it["fuel"], "p50 p99 limit");
    check_keys(&it["memory"], "p50 p99 limit");
    assert!(sha256(&it["version"]), "{it}");
    assert_eq!((&it["queue"], &it["state"]), (&json!("events"), &json!("running")));
    let table = site.run(&["handlers"]).ending(0).stdout;
    assert!(table.contains("it") && table.contains("running"), "{table}");
    // The address in `data`: for the user alone.
    let announced: Value = serde_json::from_slice(&read(&site.path(".weir/server.json"))).unwrap();
    assert_eq!(announced, json!({"url": server.url, "pid": server.pid()}));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(site.path(".weir/server.json")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let elsewhere = Site::new(QUEUE);
    assert_eq!(elsewhere.run(&["queues", "--json", "--server", &server.url]).ending(0).json(), queues);
    let url = server.url.clone();
    drop(server);
    for args in [&["handlers"][..], &["handlers", "--server", &url]] {
        assert!(site.run(args).ending(1).stderr.contains("weir serve"), "{args:?}");
    }
}

#[test]
fn dead_letters_are_read_with_and_without_a_server() {
    let site = Site::new(&one_handler("disk:./data/events", guests::OUTCOME_REJECT, ""));
    let server = site.start();
    for at in 0..3 {
        server.accept("events", &at.to_string(), &json!({"at": at}));
    }
    server.ended(3);
    let list = |args: &[&str]| site.run(&[&["dead", "list", "--json"], args].concat()).ending(0).json_lines();
    let all = list(&[]);
    assert_eq!(all.len(), 3);
    let fields = "id handler queue reason outcome limit attempts first_at dead_at version event log backtrace";
    all.iter().for_each(|letter| check_keys(letter, fields));
    assert_eq!(Value::from(all.clone()), server.get("/api/dead").body);
    assert_eq!(list(&["--handler", "it"]).len(), 3);
    assert_eq!(list(&["--handler", "other"]).len(), 0);
    assert_eq!(list(&["--reason", "no such account"]).len(), 3);
    assert_eq!(list(&["--older-than", "1h"]).len(), 0);
    assert_eq!(list(&["--limit", "2"]).len(), 2);
    assert!(site.run(&["dead", "show", "nonsense"]).ending(1).stderr.contains("not known"));
    let missing = server.get("/api/dead/nonsense");
    assert_eq!(missing.status, 404, "{missing:?}");
    let _ = server.stop();
    let ran = site.run(&["dead", "list", "--json"]).ending(0);
    assert_eq!(ran.json_lines(), all, "the same without a server");
    assert!(ran.stderr.contains("the store itself"), "{}", ran.stderr);
    assert!(site.run(&["dead", "list"]).ending(0).stdout.contains("no such account"));
}

#[test]
fn check_and_inspect_have_their_fields() {
    let grant = "[handler.it.grants]\nemail = { relay = \"file:./outbox\", from = \"a@example.com\", to = [\"*\"] }\n[handler.it.limits]\nfuel = 5_000_000";
    let site = Site::new(&one_handler("memory:", guests::SERVER_MAIL, grant));
    let checked = site.run(&["check", "--json", "--set", "handler.it.limits.memory=8MiB"]).ending(0).json();
    check_keys(&checked, "errors handlers");
    assert_eq!(checked["errors"], json!([]));
    let it = &checked["handlers"][0];
    assert!(it["name"] == "it" && it["run"] == "handler" && sha256(&it["digest"]), "{it}");
    let limits = &it["limits"];
    assert_eq!(limits["fuel"], json!({"value": 5_000_000, "from": "weir.toml"}));
    assert_eq!(limits["memory"], json!({"value": "8MiB", "from": "--set"}));
    assert_eq!(limits["deadline"], json!({"value": "30s", "from": "default"}));
    assert!(!site.path(".weir").exists() && !site.path("outbox").exists(), "check changes nothing");
    assert!(site.run(&["check"]).ending(0).stdout.ends_with("ok\n"));

    let found = site.run(&["inspect", "--json", guests::SERVER_MAIL]).ending(0).json();
    check_keys(&found, "kind run digest size exports imports");
    assert_eq!((&found["kind"], &found["digest"]), (&json!("component"), &it["digest"]));
    assert_eq!(found["size"], read(guests::SERVER_MAIL.as_ref()).len());
    let imports = found["imports"].as_array().unwrap();
    imports.iter().for_each(|import| check_keys(import, "name class grant"));
    let email = imports.iter().find(|import| import["name"] == "weir:events/email@0.1.0").unwrap();
    assert_eq!((&email["class"], &email["grant"]), (&json!("capability"), &json!("email")));
    assert!(imports.iter().all(|import| import["class"] == "ambient" || import == email), "{found}");
    assert!(site.run(&["inspect", guests::SERVER_MAIL]).ending(0).stdout.contains("needs the grant"));
    site.write("no.wasm", b"not wasm");
    assert_eq!(site.run(&["inspect", "no.wasm"]).code, 2);
    assert_eq!(site.run(&["inspect", "nowhere.wasm"]).code, 2);

    site.configure(&one_handler("memory:", guests::SERVER_MAIL, "[handler.it.limits]\nfule = 1"));
    let errors = site.run(&["check", "--json"]).ending(2).json()["errors"].clone();
    let error = &errors[0];
    assert_eq!((&error["line"], &error["key"]), (&json!(8), &json!("handler.it.limits.fule")), "{error}");
    assert!(error["file"].as_str().unwrap().ends_with("weir.toml") && error["found"] == "fule", "{error}");
    assert!(error["expected"].as_str().unwrap().contains("fuel"), "{error}");
}

#[test]
fn what_is_set_on_the_command_line_wins() {
    let site = Site::new(&one_handler("memory:", guests::SERVER_LOG, ""));
    let set = ["handlers.it.limits.fuel=1", "handler.it.limits.fuel", "server.grace=soon"];
    for set in set {
        assert_eq!(site.run(&["check", "--set", set]).code, 2, "{set}");
    }
    let checked = site.run(&["check", "--json", "--set", "handler.it.limits.fuel=12345"]).ending(0).json();
    assert_eq!(checked["handlers"][0]["limits"]["fuel"], json!({"value": 12_345, "from": "--set"}));
}

#[test]
fn completions_for_each_shell() {
    let site = Site::new("");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = site.run(&["completions", shell]).ending(0).stdout;
        assert!(script.contains("weir") && script.contains("publish"), "{shell}: {script}");
    }
    assert_eq!(site.run(&["completions", "tcsh"]).code, 2);
    for args in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        assert!(site.run(args).ending(0).stdout.contains("weir"), "{args:?}");
    }
}

#[test]
fn a_token_guards_everything_but_health() {
    let config = format!("[server]\nlisten = \"127.0.0.1:0\"\ntoken = \"s3cret\"\n{QUEUE}");
    let site = Site::new(&config);
    let mut server = site.start();
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    for path in ["/metrics", "/api/handlers", "/nowhere"] {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
    assert_eq!(server.publish("events", &weir_tests::server::event("1", &Value::Null)).status, 401);
    let ran = site.run(&["publish", "events", "--type", "t"]).ending(1);
    assert!(ran.stderr.contains("WEIR_TOKEN"), "{}", ran.stderr);
    let with_token =
        site.command(&["publish", "events", "--type", "t", "--id", "1"]).env("WEIR_TOKEN", "s3cret").output().unwrap();
    assert_eq!(String::from_utf8(with_token.stdout).unwrap(), "accepted 1\n");
    server.token = Some("s3cret".to_owned());
    assert_eq!(server.get("/api/queues").body[0]["depth"], 1);
}

#[test]
fn metrics_have_the_families_of_the_surface() {
    let site = Site::new(&one_handler("disk:./data/events", guests::SERVER_LOG, ""));
    let server = site.start();
    server.accept("events", "1", &Value::Null);
    server.ended(1);
    let metrics = server.metrics();
    let counters =
        "weir_events_received_total weir_events_ended_total weir_events_returned_total weir_outcomes_total weir_attempts_total";
    let gauges =
        "weir_events_in_flight weir_events_parked weir_queue_depth weir_queue_lag_seconds weir_dead_letters weir_handler_info";
    let others =
        "weir_reloads_total weir_build_info weir_handler_seconds_count weir_handler_fuel_count weir_handler_memory_bytes_count";
    let families = [counters, gauges, others, "weir_event_age_seconds_count"].join(" ");
    let missing: Vec<&str> = families.split(' ').filter(|family| !metrics.has(family)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let causes = ["delay", "shutdown", "lease", "rebalance", "pause", "elsewhere", "capacity"];
    let text = server.get("/metrics").text;
    for label in causes.map(|cause| format!("cause=\"{cause}\"")) {
        assert!(text.contains(&label), "{label}");
    }
}

//! What a server refuses to start with: the exit code, and that it says what to change.

use std::net::TcpListener;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use weir_tests::brokers::nsq;
use weir_tests::guests;
use weir_tests::server::{Ran, Site, read};
use weir_tests::smtp::SOON;

use crate::one_handler;

/// That neither `serve` nor `check` takes this, with exit code 2 and all of these texts. A server that takes it would never end.
#[track_caller]
fn check_wrong(site: &Site, expected: &[&str]) {
    for args in [["serve"], ["check"]] {
        check_refused(&site.run_within(&args, SOON), 2, expected);
    }
    assert!(!site.path(".weir/server.json").exists());
}

#[track_caller]
fn check_refused(ran: &Ran, code: i32, expected: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert_eq!(ran.stdout, "", "nothing is printed before the ready line");
    for text in expected {
        assert!(ran.stderr.contains(text), "no `{text}` in: {}", ran.stderr);
    }
}

#[test]
fn a_component_that_cannot_be_used_is_named() {
    let site = Site::new(&one_handler("memory:", "handler.wasm", ""));
    check_wrong(&site, &["handler.wasm", "can't be read"]);
    let good = read(guests::SERVER_LOG.as_ref());
    site.write("handler.wasm", good.get(..good.len() / 3).unwrap());
    check_wrong(&site, &["handler.wasm"]);
    site.write("handler.wasm", b"(component)");
    check_wrong(&site, &["handler.wasm", "weir:events/handler"]);
    site.write("handler.wasm", &read(guests::SERVER_MAIL.as_ref()));
    check_wrong(&site, &["handler.wasm", "weir:events/email", "email = "]);
    site.write("handler.wasm", &read(guests::LOAD_UNKNOWN_IMPORT.as_ref()));
    check_wrong(&site, &["handler.wasm"]);
}

#[test]
fn all_components_that_cannot_be_used_are_named() {
    let mut config = one_handler("memory:", "one.wasm", "");
    config.push_str(&crate::handler("other", "two.wasm", ""));
    let site = Site::new(&config);
    check_wrong(&site, &["one.wasm", "two.wasm"]);
}

#[test]
fn a_self_test_that_says_no_keeps_the_server_from_starting() {
    let grant = "email = { relay = \"file:./outbox\", from = \"qa@example.com\", to = [\"*\"] }";
    let config = |says| format!("[handler.it.grants]\n{grant}\n[handler.it.config]\nself-test = \"{says}\"");
    let site = Site::new(&one_handler("memory:", guests::LOAD_SELF_TEST, &config("error")));
    check_refused(&site.run(&["serve"]), 2, &["load_self_test.wasm", "self-test: no rules"]);
    site.configure(&one_handler("memory:", guests::LOAD_SELF_TEST, &config("ok")));
    drop(site.start());
}

#[test]
fn a_port_in_use_is_said_with_the_key_to_change() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let site = Site::new(&format!("[server]\nlisten = \"{address}\"\n[queue.events]\nurl = \"memory:\"\n"));
    check_refused(&site.run(&["serve"]), 1, &[&address, "[server] listen"]);
}

#[test]
fn a_folder_belongs_to_one_process() {
    let site = Site::new("[queue.events]\nurl = \"disk:./data/events\"\n");
    let server = site.start();
    let pid = format!("process {}", server.pid());
    check_refused(&site.run(&["serve"]), 1, &[".weir", &pid, "[server] data"]);
    // Another data folder, the same queue.
    let ran = site.run(&["serve", "--set", "server.data=other", "--set", "server.listen=127.0.0.1:0"]);
    check_refused(&ran, 1, &["queue `events`", "data/events", &server.pid().to_string()]);
    // The same by its URL.
    let url = format!("disk:{}", site.path("data/events").display());
    let ran = site.run(&["publish", &url, "--type", "t"]);
    check_refused(&ran, 1, &[&server.pid().to_string()]);
    // A server that was killed owns nothing.
    let _ = server.kill9();
    drop(site.start());
}

#[test]
fn errors_in_the_configuration_show_the_place() {
    let site = Site::new(&one_handler("memory:", guests::SERVER_LOG, "[handler.it.limits]\nfule = 5"));
    check_wrong(&site, &["weir.toml:8:1", "fule = 5", "^^^^", "`handler.it.limits.fule`", "did you mean `fuel`?"]);
    site.configure("[queue.events]\nurl = \"memory:\"\n[handler.it]\ncomponent = \"x.wasm\"\nqueue = \"evnts\"\n");
    check_wrong(&site, &["weir.toml:6:9", "evnts", "^^^^^^^", "`events`"]);
    site.configure("[queue.events\n");
    check_wrong(&site, &["weir.toml:2:", "no TOML"]);
    site.configure("[server]\nlisten = \"0.0.0.0:0\"\n");
    check_wrong(&site, &["weir.toml:2:10", "token"]);
    std::fs::remove_file(site.path("weir.toml")).unwrap();
    check_wrong(&site, &["weir.toml"]);
    for args in
        [&["check", "--set", "server.nonsense=1"][..], &["check", "--set", "server.grace"], &["check", "-c", "nowhere.toml"]]
    {
        assert_eq!(site.run(args).code, 2, "{args:?}");
    }
}

#[test]
fn too_few_instances_for_the_handlers_are_refused() {
    let handlers = ["a", "b"].map(|name| crate::handler(name, guests::SERVER_LOG, "")).concat();
    let config = |count| format!("server.instances = {count}\n[queue.events]\nurl = \"memory:\"\n{handlers}");
    let site = Site::new("");
    for count in [1, 2] {
        site.configure(&config(count));
        check_wrong(&site, &[&format!("instances is {count}"), "2 handlers"]);
        let errors = site.run(&["check", "--json"]).ending(2).json()["errors"].clone();
        let found = count.to_string();
        assert_eq!((&errors[0]["key"], &errors[0]["found"]), (&"server.instances".into(), &found.into()), "{errors}");
    }
    site.configure(&config(3));
    let _ = site.run(&["check"]).ending(0);
    drop(site.start());
}

#[test]
fn a_pipe_instead_of_a_file_is_refused_at_once() {
    let bound = Duration::from_secs(10);
    let in_place_of = [
        ("handler.wasm", one_handler("memory:", "handler.wasm", "")),
        ("say.txt", one_handler("memory:", guests::SERVER_LOG, "[handler.it.config]\nsay = { file = \"say.txt\" }")),
    ];
    for (file, config) in in_place_of {
        let site = Site::new(&config);
        rustix::fs::mknodat(CWD, site.path(file), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for args in [["serve"], ["check"]] {
            check_refused(&site.run_within(&args, bound), 2, &[file, "no regular file"]);
        }
    }
}

#[test]
fn what_comes_later_is_refused_not_ignored() {
    let queue = "[queue.events]\nurl = \"memory:\"\n";
    let it = crate::handler("it", guests::SERVER_LOG, "");
    let later: Vec<(String, &str)> = vec![
        (format!("include = [\"x.toml\"]\n{queue}"), "include"),
        (format!("[server]\nlisten = \"127.0.0.1:0\"\ntls = {{ cert = \"a\", key = \"b\" }}\n{queue}"), "tls"),
        (format!("[server]\nlisten = \"127.0.0.1:0\"\nstore = \"postgres://h\"\n{queue}"), "store"),
        ("[queue.events]\nurl = \"pulsar://h/events\"\n".to_owned(), "pulsar"),
        (format!("{queue}{it}trial = {{ events = 5 }}\n"), "trial"),
        (format!("{queue}{it}digest = \"sha256:00\"\n"), "digest"),
        (format!("{queue}{it}isolation = {{ reuse = 5 }}\n"), "isolation"),
        (format!("{queue}{it}run = \"http\"\n"), "run"),
        (format!("{queue}{it}limits.fuel = \"off\"\n"), "fuel"),
        (format!("{queue}{it}grants.files = []\n"), "files"),
        (format!("{queue}{it}grants.env = {{ TZ = \"UTC\" }}\n"), "env"),
        (format!("{queue}{it}grants.args = []\n"), "args"),
        (format!("{queue}{it}grants.secrets = []\n"), "secrets"),
        (format!("{queue}[secret.x]\nvalue = \"y\"\n"), "secret"),
        (format!("{queue}[ceilings]\nfuel = 5\n"), "ceilings"),
    ];
    let site = Site::new(queue);
    for (config, key) in later {
        site.configure(&config);
        let ran = site.run(&["check", "--json"]);
        assert_eq!(ran.code, 2, "{key}: {ran:?}");
        let errors = ran.json()["errors"].clone();
        let text = errors.to_string();
        assert!(text.contains("not in this version yet") && text.contains(key), "{key}: {text}");
        assert!(errors[0]["line"].as_u64().is_some(), "{key}: {text}");
        let ran = site.run(&["serve"]);
        check_refused(&ran, 2, &["not in this version yet", key]);
    }
}

#[test]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
fn a_handler_that_may_run_longer_than_its_queue_keeps_an_event_is_refused() {
    let nsqd = nsq::start("-max-msg-timeout=20s");
    let site = Site::new(&one_handler(&format!("{}/orders?lease=10s", nsqd.url()), guests::SERVER_LOG, ""));
    let text = ["handler `it`", "deadline of 30s", "nine tenths of the 20s that queue `events` can keep"];
    check_refused(&site.run_within(&["serve"], SOON), 2, &text);
}

#[test]
fn commands_that_come_later_are_unknown() {
    let site = Site::new("[queue.events]\nurl = \"memory:\"\n");
    for args in [&["top"][..], &["move"], &["handlers", "rollback", "it"], &["sevre"], &[]] {
        let ran = site.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {ran:?}");
    }
}

//! Files that change while the server runs: new events run on what is new and good, and what is broken changes nothing.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Server, Site, another_version, read};

use crate::one_handler;

/// The digest that Weir shows of a file.
fn digest(site: &Site, file: &str) -> String {
    site.run(&["inspect", "--json", file]).ending(0).json()["digest"].as_str().unwrap().to_owned()
}

fn version(server: &Server) -> String {
    server.handler("it")["version"].as_str().unwrap().to_owned()
}

/// The first twelve digits, as logs have them.
fn short(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap().get(..12).unwrap()
}

fn reloads(server: &Server, result: &str) -> u64 {
    server.metrics().sum("weir_reloads_total", &[("handler", "it"), ("result", result)])
}

fn place_in_place(site: &Site, content: &[u8]) {
    site.write("handler.wasm", content);
}

fn place_renamed(site: &Site, content: &[u8]) {
    site.replace("handler.wasm", content);
}

fn place_anew(site: &Site, content: &[u8]) {
    std::fs::remove_file(site.path("handler.wasm")).unwrap();
    site.write("handler.wasm", content);
}

/// As Kubernetes mounts and release folders do.
fn place_behind_a_link(site: &Site, content: &[u8]) {
    let folder = format!("releases/{}", content.len());
    site.write(&format!("{folder}/handler.wasm"), content);
    let link = site.path("handler.link");
    std::os::unix::fs::symlink(Path::new(&folder).join("handler.wasm"), &link).unwrap();
    std::fs::rename(link, site.path("handler.wasm")).unwrap();
}

#[test]
fn new_events_run_on_the_new_file_however_it_came() {
    let site = Site::new(&one_handler("memory:", "handler.wasm", ""));
    let component = read(guests::SERVER_LOG.as_ref());
    site.write("handler.wasm", &component);
    let server = site.start();
    server.accept("events", "0", &Value::Null);
    server.ended(1);
    let ways = [place_in_place, place_renamed, place_anew, place_behind_a_link, place_behind_a_link, place_renamed];
    let mut count = 1;
    for (at, place) in ways.iter().enumerate() {
        let before = version(&server);
        place(&site, &another_version(&component, &"x".repeat(at + 1)));
        let expected = digest(&site, "handler.wasm");
        server.eventually(&format!("way {at}: the new version runs"), |server| version(server) == expected);
        let handler = server.handler("it");
        assert_eq!((&handler["previous"], &handler["error"]), (&json!(before), &Value::Null), "way {at}");
        count += 1;
        server.accept("events", &count.to_string(), &Value::Null);
        server.ended(count);
        let handled = server.logged(&format!("handled {count} "), 1);
        assert_eq!(handled[0]["version"], short(&expected), "way {at}");
    }
    assert_eq!((reloads(&server, "succeeded"), reloads(&server, "failed")), (ways.len() as u64, 0));
    let text = server.get("/metrics").text;
    assert!(text.contains(&format!("weir_handler_info{{handler=\"it\",version=\"{}\"}} 1", version(&server))), "{text}");
}

#[test]
fn what_runs_during_the_swap_finishes_on_the_old_version() {
    let site = Site::new(&one_handler("memory:", "handler.wasm", ""));
    let component = read(guests::SERVER_SLOW.as_ref());
    site.write("handler.wasm", &component);
    let server = site.start();
    let old = version(&server);
    server.accept("events", "slow", &json!(3_000));
    server.eventually("it runs", |server| server.metrics().sum("weir_events_in_flight", &[]) == 1);
    site.replace("handler.wasm", &another_version(&component, "new"));
    server.eventually("the new version runs", |server| version(server) != old);
    let new = version(&server);
    server.accept("events", "quick", &json!(0));
    server.ended(2);
    let said = |id: &str| server.logged("slept, attempt 1", 2).into_iter().find(|line| line["event"] == id).unwrap();
    assert_eq!(said("slow")["version"], short(&old));
    assert_eq!(said("quick")["version"], short(&new));
}

#[test]
fn a_text_that_changes_is_a_new_version() {
    let config = one_handler("memory:", guests::SERVER_LOG, "[handler.it.config]\nsay = { file = \"say.txt\" }");
    let site = Site::new(&config);
    site.write("say.txt", b"good morning");
    let server = site.start();
    server.accept("events", "1", &Value::Null);
    server.ended(1);
    site.write("say.txt", b"good evening");
    server.eventually("the text was loaded", |server| reloads(server, "succeeded") == 1);
    server.accept("events", "2", &Value::Null);
    server.ended(2);
    std::fs::remove_file(site.path("say.txt")).unwrap();
    server.eventually("its absence was seen", |server| reloads(server, "failed") == 1);
    let error = server.handler("it")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("say.txt"), "{error}");
    server.accept("events", "3", &Value::Null);
    server.ended(3);
    let log = server.stop();
    for said in ["handled 1 attempt 1 queue events good morning", "handled 2 attempt 1 queue events good evening"] {
        assert_eq!(log.with(said).len(), 1, "{said}");
    }
    assert_eq!(log.with("handled 3 attempt 1 queue events good evening").len(), 1);
}

#[test]
pub(crate) fn a_broken_file_leaves_the_old_version_running() {
    let config = one_handler("memory:", "handler.wasm", "");
    let site = Site::new(&config);
    let good = read(guests::SERVER_LOG.as_ref());
    site.write("handler.wasm", &good);
    let server = site.start();
    let running = version(&server);
    let cut = good.get(..good.len() / 2).unwrap();
    let broken: [(&str, &[u8], &str); 6] = [
        ("cut short", cut, ""),
        ("garbage", b"\x7fELF garbage", "neither wasm nor its text form"),
        ("empty", b"", "is empty"),
        ("a mail without a grant", &read(guests::SERVER_MAIL.as_ref()), "email"),
        ("a self-test that says no", &read(guests::SERVER_SELF_TEST.as_ref()), "no rules"),
        ("a core module", b"(module)", ""),
    ];
    for (at, (what, content, expected)) in broken.iter().enumerate() {
        let at = at as u64 + 1;
        site.replace("handler.wasm", content);
        server.eventually(&format!("{what}: it is refused"), |server| reloads(server, "failed") == at);
        let handler = server.handler("it");
        let error = handler["error"].as_str().unwrap();
        assert!(error.contains("handler.wasm") && error.contains(expected), "{what}: {error}");
        assert_eq!((&handler["state"], &handler["version"]), (&json!("running"), &json!(running)), "{what}");
        let told = server.logged("new version refused", usize::try_from(at).unwrap());
        assert!(told.last().unwrap()["error"].as_str().unwrap().contains(expected), "{what}: {told:?}");
        server.accept("events", &at.to_string(), &Value::Null);
        server.ended(at);
        assert_eq!(server.logged(&format!("handled {at} "), 1)[0]["version"], short(&running), "{what}");
    }
    std::fs::remove_file(site.path("handler.wasm")).unwrap();
    server.eventually("its absence is seen", |server| reloads(server, "failed") == broken.len() as u64 + 1);
    assert!(server.handler("it")["error"].as_str().unwrap().contains("can't be read"));

    // The old file again: nothing is wrong any more.
    site.replace("handler.wasm", &good);
    server.eventually("the error is gone", |server| server.handler("it")["error"].is_null());
    assert_eq!(version(&server), running);
    assert_eq!(reloads(&server, "succeeded"), 0);
}

#[test]
fn a_folder_that_is_never_quiet_does_not_hold_up_a_reload() {
    let site = Site::new(&one_handler("memory:", "handler.wasm", ""));
    let component = read(guests::SERVER_LOG.as_ref());
    site.write("handler.wasm", &component);
    let server = site.start();
    let written = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let (site, written) = (&site, &written);
        scope.spawn(move || {
            // Sooner than files count as quiet.
            while stopped.recv_timeout(Duration::from_millis(20)) == Err(mpsc::RecvTimeoutError::Timeout) {
                site.write("beside.txt", b"again");
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Moved in here, so that the thread ends with whatever ends this.
        let _stop = stop;
        server.eventually("the folder is written to", |_| written.load(Ordering::Relaxed) > 10);
        for mark in ["one", "two"] {
            site.replace("handler.wasm", &another_version(&component, mark));
            let expected = digest(site, "handler.wasm");
            let before = written.load(Ordering::Relaxed);
            server.eventually("the new version runs", |server| version(server) == expected);
            assert!(written.load(Ordering::Relaxed) > before, "and the folder was written to meanwhile");
        }
    });
    assert_eq!((reloads(&server, "succeeded"), reloads(&server, "failed")), (2, 0));
}

//! The commands against a real server, real queues and a real store.

use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Client, Found, SERVER_FILE, ServerArgs, ServerFile};
use super::output::{CliError, Global, Output};
use super::{dead, direct, handlers, publish, queues};
use crate::admin::tests::{Choice, Running, start};
use crate::dead::DeadLetter;
use crate::event::Event;
use crate::store::Store;
use crate::store::tests::{letter as stored, recent};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Publish(publish::Publish),
    Dead(dead::Dead),
    Handlers(handlers::Handlers),
    Queues(queues::Queues),
}

/// Runs a command line in the manner of `main`, with this configuration: what it prints and how it ends.
fn weir(folder: &Path, line: &[&str]) -> (String, Result<(), CliError>) {
    let config = folder.join("weir.toml").display().to_string();
    let words = ["weir", "-c", &config].into_iter().chain(line.iter().copied());
    let line = Line::try_parse_from(words).unwrap();
    let mut text = Vec::new();
    let output = &mut Output::new(&mut text, false);
    let done = match &line.command {
        Command::Publish(args) => publish::run_to(args, &line.global, output),
        Command::Dead(args) => dead::run_to(args, &line.global, output),
        Command::Handlers(args) => handlers::run_to(args, &line.global, output),
        Command::Queues(args) => queues::run_to(args, &line.global, output),
    };
    (String::from_utf8(text).unwrap(), done)
}

fn json(folder: &Path, line: &[&str]) -> Value {
    let line: Vec<&str> = line.iter().copied().chain(["--json"]).collect();
    let (text, done) = weir(folder, &line);
    // One that failed among several is told, and told again by the exit code.
    assert!(done.is_ok() || text.contains("\"failed\":[{"), "{done:?}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = "[server]\ndata = \"./data\"\n[queue.events]\nurl = \"disk:./events\"\ntype = \"com.example.raw\"\n";
    std::fs::write(folder.path().join("weir.toml"), text).unwrap();
    folder
}

/// A folder whose configuration has a server that runs.
async fn served(choice: Choice) -> (TempDir, Running) {
    let (folder, server) = (folder(), start(choice).await);
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let file = ServerFile { url: format!("http://{}", server.address), pid: std::process::id() };
    std::fs::write(data.join(SERVER_FILE), serde_json::to_vec(&file).unwrap()).unwrap();
    (folder, server)
}

fn letter(id: &str, handler: &str) -> DeadLetter {
    let event = Event { id: "1".to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    let (handler, reason) = (handler.to_owned(), "no owner".to_owned());
    DeadLetter { handler, reason, outcome: Some("reject"), event: Arc::new(event), ..stored(id, recent(0)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_ask_the_server_that_runs() {
    let (folder, server) = served(Choice::default()).await;
    server.store.put_dead(&letter("a", "mailer")).await.unwrap();
    server.store.put_dead(&letter("b", "audit")).await.unwrap();
    let asked = tokio::task::spawn_blocking(move || {
        let folder = folder.path();
        let event = ["publish", "events", "--type", "order.paid", "--id", "7", "--data", "{\"n\":1.50}", "--ext", "tenant=a"];
        assert_eq!(json(folder, &event), serde_json::json!({"accepted": 1, "ids": ["7"]}));
        let (text, done) = weir(folder, &["publish", "events", "--type", "late", "--delay", "1h"]);
        done.unwrap();
        assert!(text.starts_with("accepted 0"), "{text}");
        assert!(!folder.join("events").exists(), "the queue is the server's");

        assert_eq!(json(folder, &["queues"])[0]["depth"], 2);
        assert_eq!(json(folder, &["handlers"])[0]["name"], "mailer");
        let (table, done) = weir(folder, &["handlers"]);
        done.unwrap();
        assert!(table.starts_with("HANDLER") && table.lines().count() == 2, "{table}");

        assert_eq!(json(folder, &["dead", "list", "--handler", "audit"])["id"], "b");
        assert_eq!(weir(folder, &["dead", "list", "--json"]).0.lines().count(), 2);
        assert_eq!(json(folder, &["dead", "show", "a"])["event"]["id"], "1");
        let replayed = json(folder, &["dead", "replay", "a", "zzz", "--handler", "mailer"]);
        assert_eq!((&replayed["replayed"], &replayed["failed"][0]["id"]), (&1.into(), &"zzz".into()), "{replayed}");
        let (_, refused) = weir(folder, &["dead", "replay", "b"]);
        let refused = refused.unwrap_err();
        assert!(refused.exit_code() == 2 && refused.to_string().contains("known: `mailer`"), "{refused}");
        assert_eq!(weir(folder, &["dead", "drop", "--handler", "audit"]).0, "dropped 1\n");
        let (_, unknown) = weir(folder, &["dead", "show", "zzz"]);
        let unknown = unknown.unwrap_err();
        assert!(unknown.exit_code() == 1 && unknown.to_string().contains("`zzz` is not known"), "{unknown}");
    });
    asked.await.unwrap();
    let mut pulled = server.pull().await;
    let (replayed, delivery) = (pulled.remove(1), pulled.remove(0));
    assert_eq!((replayed.event.id.as_str(), replayed.event.extension("weirhandler")), ("1", Some("mailer")));
    assert_eq!((delivery.event.id.as_str(), delivery.event.kind.as_str()), ("7", "order.paid"));
    assert_eq!(delivery.event.data.as_deref(), Some(&b"{\"n\":1.50}"[..]));
    assert_eq!((delivery.event.extension("tenant"), delivery.event.source.as_str()), (Some("a"), "/weir/queue/events"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_drops_go_on_over_pages() {
    const COUNT: usize = 2 * crate::dead::DEAD_LIST_MAX + 500;
    let (folder, server) = served(Choice::default()).await;
    let letters: Vec<DeadLetter> =
        (0..COUNT).map(|at| letter(&format!("{at:05}"), if at % 5 == 0 { "audit" } else { "mailer" })).collect();
    crate::dead::DeadLetters::put(&*server.store, &letters.iter().collect::<Vec<_>>()).await.unwrap();
    let asked = tokio::task::spawn_blocking(move || {
        let folder = folder.path();
        let listed = |line: &[&str]| weir(folder, line).0.lines().count();
        assert_eq!(listed(&["dead", "list", "--json"]), COUNT);
        assert_eq!(listed(&["dead", "list", "--json", "--limit", "1500"]), 1_500);
        assert_eq!(listed(&["dead", "list"]), crate::dead::DEAD_LIST_MAX + 1, "and a head");
        assert_eq!(json(folder, &["dead", "drop", "--handler", "audit"])["dropped"], COUNT / 5);
        assert_eq!(listed(&["dead", "list", "--json"]), COUNT - COUNT / 5);
        assert_eq!(json(folder, &["dead", "drop", "--all"]), serde_json::json!({"dropped": COUNT - COUNT / 5, "failed": []}));
        assert_eq!(listed(&["dead", "list", "--json"]), 0);
    });
    asked.await.unwrap();
}

#[test]
fn without_a_server_queues_and_store_are_opened() {
    let folder = folder();
    let path = folder.path();
    assert_eq!(json(path, &["queues"])[0]["depth"], 0);
    assert!(!path.join("events").exists(), "asking makes nothing");
    assert_eq!(weir(path, &["dead", "list", "--json"]).0, "");
    let (_, none) = weir(path, &["handlers"]);
    let none = none.unwrap_err();
    assert!(none.exit_code() == 1 && none.to_string().contains("weir serve"), "{none}");

    assert_eq!(json(path, &["publish", "events", "--type", "t", "--id", "1"])["accepted"], 1);
    // A server that is gone left its address behind: nobody answers there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = format!("http://{gone}");
    assert_eq!(json(path, &["publish", "events", "--type", "t", "--id", "2", "--server", &gone])["accepted"], 1);
    let url = format!("disk:{}", path.join("events").display());
    let (_, by_url) = weir(&path.join("nowhere"), &["publish", &url, "--type", "t"]);
    by_url.unwrap();
    let queues = json(path, &["queues"]);
    assert_eq!((queues[0]["depth"].as_u64(), queues[0]["connected"].as_bool()), (Some(3), Some(true)));

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Store::open(&path.join("data")).unwrap();
    runtime.block_on(store.put_dead(&letter("a", "mailer"))).unwrap();
    let (_, owned) = weir(path, &["dead", "list"]);
    let owned = owned.unwrap_err();
    assert!(owned.exit_code() == 1 && owned.to_string().contains("is open in another process"), "{owned}");
    drop(store);
    assert_eq!(json(path, &["dead", "show", "a"])["reason"], "no owner");
}

#[test]
fn a_queue_that_a_process_owns_names_it() {
    let folder = folder();
    let url = crate::queue::url::QueueUrl::Disk(folder.path().join("events"));
    let held = direct::Direct::open("events", &url, 1 << 20).unwrap();
    for line in [&["publish", "events", "--type", "t"][..], &["queues"]] {
        let (_, owned) = weir(folder.path(), line);
        let owned = owned.unwrap_err();
        assert!(owned.exit_code() == 1 && owned.to_string().contains(&std::process::id().to_string()), "{owned}");
    }
    drop(held);
    weir(folder.path(), &["publish", "events", "--type", "t"]).1.unwrap();
}

#[test]
fn what_is_wrong_with_a_command_line_is_said() {
    let folder = folder();
    for (line, expected) in [
        (&["publish", "event", "--type", "t"][..], "queue `event` is not defined"),
        (&["publish", "events", "--type", "t", "--data", "{"], "`--data` is not JSON"),
        (&["publish", "events", "--type", "t", "--delay", "10"], "`--delay`: `10` is no duration"),
        (&["publish", "events", "--type", "t", "--ext", "weirhops=1"], "Weir's own"),
        (&["publish", "pulsar://localhost/events", "--type", "t"], "not in this version yet"),
        (&["publish", "events", "--type", "t", "--server", "https://localhost"], "needs TLS"),
        (&["publish", "events", "--type", "t", "--data-file", "/nowhere/x"], "`/nowhere/x` can't be read"),
        (&["dead", "list", "--older-than", "soon"], "`--older-than`: `soon` is no duration"),
        (&["dead", "drop"], "which dead letters is not said (expected their ids, --handler,"),
        (&["dead", "replay", "--to", "mailer"], "or --all"),
        (&["dead", "replay", "a", "--handler", "x", "--to", "y"], "both name who gets the events"),
    ] {
        let (text, done) = weir(folder.path(), line);
        let error = done.unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(expected), "{line:?}: {error}");
        assert_eq!(text, "", "{line:?}");
    }
    let (_, memory) = weir(folder.path(), &["publish", "memory:", "--type", "t"]);
    assert!(memory.unwrap_err().to_string().contains("only its server can reach"));
    for wrong in [
        &["publish", "events"][..],
        &["publish", "events", "--stdin", "--id", "1"],
        &["dead"],
        &["dead", "list", "--limit", "0"],
        &["dead", "drop", "a", "--all"],
        &["dead", "drop", "a", "--handler", "mailer"],
        &["dead", "replay", "a", "--older-than", "1h"],
        &["dead", "replay", "--all", "--reason", "x"],
        &["handlers", "pause"],
    ] {
        assert!(Line::try_parse_from(["weir"].iter().chain(wrong)).is_err(), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_and_its_lack_is_named() {
    let server = start(Choice { token: Some("full"), ..Choice::default() }).await;
    let url = format!("http://{}", server.address);
    let asked = tokio::task::spawn_blocking(move || {
        let denied = Client::new(&url, None).unwrap().get("/api/handlers").unwrap().text().unwrap_err();
        assert!(denied.exit_code() == 1 && denied.to_string().contains("WEIR_TOKEN"), "{denied}");
        Client::new(&url, Some("full")).unwrap().get("/api/handlers").unwrap().text().unwrap();
    });
    asked.await.unwrap();
}

#[test]
fn what_answers_and_is_no_weir_gets_no_token() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let other = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi").unwrap();
        String::from_utf8_lossy(&head[..length]).to_lowercase()
    });
    let folder = folder();
    let global = Global { config: folder.path().join("weir.toml"), json: false, set: Vec::new() };
    let found = ServerArgs { server: Some(url) }.find(&global).unwrap();
    assert!(matches!(found, Found::Nobody(why) if why.contains("something else does")));
    assert!(!other.join().unwrap().contains("authorization"));
}

//! The HTTP side over real sockets, with the memory queue and the embedded store behind it.

mod hostile;
mod parts;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::parts::{Parts, queue_config};
use super::server::{Bounds, serve_within};
use super::status::Readiness;
use super::*;
use crate::clock::{self, Timestamp};
use crate::config::Secret;
use crate::dead::DeadLetter;
use crate::event::Event;
use crate::queue::memory::MemoryQueue;
use crate::queue::{Delivery, Start};
use crate::stats::SubscriptionStats;
use crate::store::{Store, StoreUrl};

/// Far longer than anything here takes: it ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test can choose.
#[derive(Default)]
pub(crate) struct Choice {
    pub(crate) token: Option<&'static str>,
    pub(crate) publish_token: Option<&'static str>,
    pub(crate) readiness: Readiness,
    pub(crate) bounds: Bounds,
    pub(crate) body_timeout: Option<Duration>,
    pub(crate) max_size: Option<u64>,
}

/// A server that runs, and ends with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) store: Arc<Store>,
    stats: Arc<SubscriptionStats>,
    task: JoinHandle<()>,
    stop: CancellationToken,
    _stop: DropGuard,
    _data: tempfile::TempDir,
}

const MAX_EVENT: u64 = 64 << 10;

pub(crate) async fn start(choice: Choice) -> Running {
    let data = tempfile::tempdir().unwrap();
    let server = config::Server {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: PathBuf::from(data.path()),
        store: StoreUrl::Disk,
        name: None,
        group: "weir".to_owned(),
        grace: Duration::from_secs(1),
        token: choice.token.map(|token| Secret(token.to_owned())),
        publish_token: choice.publish_token.map(|token| Secret(token.to_owned())),
        hosts: vec!["weir.example.com".to_owned()],
        max_event: MAX_EVENT,
        instances: 1,
        loaded: 1,
        mail_kept: Duration::from_secs(1),
    };
    let queue: Arc<dyn Queue> = MemoryQueue::new("events", choice.max_size.unwrap_or(64 << 20));
    queue.subscribe("weir-mailer", Start::New).await.unwrap();
    let queues = BTreeMap::from([
        ("events".to_owned(), (queue.clone(), queue_config(true))),
        ("inner".to_owned(), (queue.clone(), queue_config(false))),
    ]);
    let (store, stats) = (Store::open(data.path()).unwrap(), SubscriptionStats::new("events", "mailer"));
    let parts = Parts { queue: queue.clone(), store: store.clone(), stats: stats.clone(), readiness: choice.readiness };
    let mut state = State::new(&server, &queues, Arc::new(parts));
    if let Some(timeout) = choice.body_timeout {
        let state = Arc::get_mut(&mut state).unwrap();
        Arc::get_mut(&mut state.ingress).unwrap().body_timeout = timeout;
    }
    let listener = TcpListener::bind(server.listen).await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let task = tokio::spawn(serve_within(listener, state, stop.clone(), choice.bounds));
    Running { address, queue, store, stats, task, _stop: stop.clone().drop_guard(), stop, _data: data }
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text.as_str(), ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Running {
    /// One request on a connection of its own, as it is written here, and all that comes back until the connection ends.
    async fn raw(&self, request: &[u8]) -> Answer {
        let talk = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            // A reset after the answer is the server's right.
            let _ = stream.read_to_end(&mut answer).await;
            Answer::read(&answer)
        };
        tokio::time::timeout(PATIENCE, talk).await.unwrap()
    }

    async fn ask(&self, line: &str, headers: &str, body: &[u8]) -> Answer {
        let host = if headers.contains("host:") { "" } else { "host: localhost\r\n" };
        let length = body.len();
        let head = format!("{line} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "", b"").await
    }

    pub(crate) async fn pull(&self) -> Vec<Delivery> {
        let pull = self.queue.pull("weir-mailer", NonZeroUsize::new(100).unwrap());
        tokio::time::timeout(PATIENCE, pull).await.unwrap().unwrap()
    }

    async fn waiting(&self) -> Option<u64> {
        self.queue.depth().await.unwrap().events
    }
}

const STRUCTURED: &str = "content-type: application/cloudevents+json\r\n";
const BATCH: &str = "content-type: application/cloudevents-batch+json\r\n";

fn event(id: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t"}}"#)
}

#[tokio::test]
async fn events_of_every_mode_are_taken_in_order() {
    let server = start(Choice::default()).await;
    let binary = "ce-specversion: 1.0\r\nce-id: b\r\nce-source: /s\r\nce-type: t\r\ncontent-type: text/plain\r\n";
    let batch = format!("[{},{}]", event("x"), event("y"));
    for (headers, body, ids) in [
        (binary, "text", Some(json!(["b"]))),
        (STRUCTURED, &event("s"), Some(json!(["s"]))),
        (BATCH, &batch, Some(json!(["x", "y"]))),
        (BATCH, "[]", Some(json!([]))),
        ("content-type: application/json\r\n", "{\"a\":1}", None),
    ] {
        let answer = server.ask("POST /events/events", headers, body.as_bytes()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let (found, ids) = (answer.json(), ids.unwrap_or_else(|| answer.json()["ids"].clone()));
        assert_eq!(found, json!({"accepted": ids.as_array().unwrap().len(), "ids": ids}));
    }
    let events: Vec<Arc<Event>> = server.pull().await.into_iter().map(|delivery| delivery.event).collect();
    assert_eq!(events.iter().take(4).map(|event| event.id.as_str()).collect::<Vec<_>>(), ["b", "s", "x", "y"]);
    assert_eq!((events.len(), events[4].kind.as_str(), events[4].source.as_str()), (5, "com.example.raw", "/weir/queue/events"));
}

#[tokio::test]
async fn a_delayed_event_waits() {
    let server = start(Choice::default()).await;
    assert_eq!(server.ask("POST /events/events?delay=1h", STRUCTURED, event("late").as_bytes()).await.status, 202);
    assert_eq!(server.ask("POST /events/events", STRUCTURED, event("now").as_bytes()).await.status, 202);
    let pulled = server.pull().await;
    assert_eq!(pulled.iter().map(|delivery| delivery.event.id.as_str()).collect::<Vec<_>>(), ["now"]);
    assert_eq!(server.waiting().await, Some(2));
}

#[tokio::test]
async fn what_is_not_taken_says_why_and_leaves_nothing() {
    let server = start(Choice::default()).await;
    let large = "x".repeat(usize::try_from(MAX_EVENT).unwrap() + 1);
    let half = format!("[{},{}]", event("1"), r#"{"specversion":"1.0","id":"2","source":"/s"}"#);
    let large_one = format!(r#"[{},{{"specversion":"1.0","id":"2","source":"/s","type":"t","data":"{large}"}}]"#, event("1"));
    for (line, headers, body, status, error) in [
        ("POST /events/event", "", "7", 404, "queue `event` is not defined (known: `events`)"),
        ("POST /events/inner", "", "7", 404, "queue `inner` takes no events over HTTP (`ingress = false`) (known: `events`)"),
        ("POST /events/events?dela=1s", "", "7", 400, "query parameter `dela` is not known"),
        ("POST /events/events", "", "", 400, "body is empty"),
        ("POST /events/events", "ce-id: 1\r\n", "7", 400, "`specversion` is missing"),
        ("POST /events/events", BATCH, "{}", 400, "no JSON array"),
        ("POST /events/events", "", &large, 413, "larger than 65536 bytes"),
        ("POST /events/%ff", "", "7", 400, "not UTF-8"),
        ("GET /events/events", "", "", 405, "another method"),
        ("DELETE /api/dead/1", "", "", 404, "dead letter `1` is not known"),
        ("PUT /api/dead/1", "", "", 405, "another method"),
        ("GET /api/dead/1/replay", "", "", 405, "another method"),
        ("POST /api/dead/1/replay", "", "", 404, "dead letter `1` is not known"),
        ("POST /api/dead/1/replay?to=x", "", "", 400, "query parameter `to` is not known"),
        ("POST /api/handlers/nobody/pause", "", "", 404, "handler `nobody` is not defined"),
        ("POST /api/handlers/mailer/forget", "", "", 409, "is defined"),
        ("POST /api/handlers/mailer/stop", "", "", 404, "no route"),
        ("OPTIONS /events/events", "", "", 405, "another method"),
        ("POST /events/", "", "7", 404, "no route `/events/`"),
        ("POST /events/events/x", "", "7", 404, "no route"),
        ("GET /api/dead/../handlers", "", "", 404, "no route"),
        ("GET /", "", "", 404, "no route"),
    ] {
        let answer = server.ask(line, headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(answer.error().contains(error), "{line}: {answer:?}");
        assert!(answer.json().get("index").is_none(), "{answer:?}");
        assert!(answer.head.contains("x-content-type-options: nosniff"), "{answer:?}");
        assert!(answer.head.contains("cache-control: no-store"), "{answer:?}");
        assert_eq!(answer.head.contains("allow: "), status == 405, "{answer:?}");
    }
    for (body, status) in [(half, 400), (large_one, 413)] {
        let answer = server.ask("POST /events/events", BATCH, body.as_bytes()).await;
        assert_eq!((answer.status, answer.json()["index"].as_u64()), (status, Some(1)), "{answer:?}");
    }
    assert_eq!(server.waiting().await, Some(0));
}

#[tokio::test]
async fn a_full_or_closed_queue_asks_to_come_back() {
    let server = start(Choice { max_size: Some(4_000), ..Choice::default() }).await;
    let body = "x".repeat(3_000);
    assert_eq!(server.ask("POST /events/events", "", body.as_bytes()).await.status, 202);
    let full = server.ask("POST /events/events", "", body.as_bytes()).await;
    assert_eq!((full.status, full.head.contains("retry-after: 5")), (429, true), "{full:?}");
    assert!(full.error().contains("queue is full"), "{full:?}");
    let never = server.ask("POST /events/events", "", "x".repeat(5_000).as_bytes()).await;
    assert_eq!(never.status, 413, "{never:?}");
    server.queue.close().await;
    let closed = server.ask("POST /events/events", "", b"7").await;
    assert_eq!((closed.status, closed.head.contains("retry-after: 5")), (503, true), "{closed:?}");
}

#[tokio::test]
async fn routes_ask_for_the_token_that_they_need() {
    let server = start(Choice { token: Some("full"), publish_token: Some("pub"), ..Choice::default() }).await;
    for (line, none, publish, full) in [
        ("GET /healthz", 200, 200, 200),
        ("GET /readyz", 200, 200, 200),
        ("POST /events/events", 401, 202, 202),
        ("GET /metrics", 401, 403, 200),
        ("GET /api/handlers", 401, 403, 200),
        ("GET /api/queues", 401, 403, 200),
        ("GET /api/dead", 401, 403, 200),
        ("GET /api/dead/1", 401, 403, 404),
        ("POST /api/dead/1/replay", 401, 403, 404),
        ("DELETE /api/dead/1", 401, 403, 404),
        ("POST /api/handlers/mailer/pause", 401, 403, 200),
        ("POST /api/handlers/mailer/resume", 401, 403, 200),
        ("POST /api/handlers/mailer/forget", 401, 403, 409),
        ("GET /unknown", 401, 403, 404),
        ("GET /events/events", 401, 405, 405),
    ] {
        for (headers, status) in [
            ("", none),
            ("authorization: Bearer pub\r\n", publish),
            ("authorization: Bearer full\r\n", full),
            ("authorization: Bearer wrong\r\n", none),
        ] {
            let answer = server.ask(line, headers, if line.starts_with("POST") { b"7" } else { b"" }).await;
            assert_eq!(answer.status, status, "{line} {headers}: {answer:?}");
            assert_eq!(answer.head.contains("www-authenticate: bearer"), status == 401, "{answer:?}");
            assert!(answer.head.contains("x-frame-options: deny"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn readiness_is_told_with_its_reasons() {
    let degraded = Readiness { degraded: vec!["handler `mailer` failed".to_owned()], ..Readiness::default() };
    let away = Readiness { not_ready: vec!["queue `events` is away".to_owned()], ..degraded.clone() };
    for (readiness, status) in [(degraded.clone(), 200), (away, 503), (Readiness { draining: true, ..degraded }, 503)] {
        let server = start(Choice { readiness: readiness.clone(), ..Choice::default() }).await;
        let answer = server.get("/readyz").await;
        assert_eq!(answer.status, status);
        let Readiness { draining, not_ready, degraded } = readiness;
        let expected = json!({"ready": status == 200, "draining": draining, "not_ready": not_ready, "degraded": degraded});
        assert_eq!(answer.json(), expected);
        assert_eq!(server.get("/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn the_api_says_what_there_is() {
    let server = start(Choice::default()).await;
    assert_eq!(server.ask("POST /events/events", STRUCTURED, event("1").as_bytes()).await.status, 202);
    let delivery = server.pull().await.remove(0);
    {
        let mut counts = server.stats.count();
        (counts.received, counts.in_flight) = (1, 1);
    }
    for (id, reason) in [("a", "no owner"), ("b", "used up its fuel")] {
        let letter = DeadLetter {
            id: id.to_owned(),
            handler: "mailer".to_owned(),
            queue: "events".to_owned(),
            reason: reason.to_owned(),
            outcome: Some("reject"),
            limit: None,
            attempts: 1,
            first_at: delivery.first_seen,
            dead_at: Timestamp(if id == "a" { 1_000 } else { clock::now().0 }),
            version: None,
            event: delivery.event.clone(),
            log: String::new(),
            backtrace: Vec::new(),
        };
        server.store.put_dead(&letter).await.unwrap();
    }
    let ids = |answer: &Answer| -> Vec<String> {
        answer.json().as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = server.get("/api/dead").await;
    // The store drops what is older than `dead-keep`; what is left is the newest first.
    assert_eq!((ids(&all).first().map(String::as_str), all.head.contains("weir-more")), (Some("b"), false), "{all:?}");
    assert_eq!(ids(&server.get("/api/dead?handler=mailer&reason=fuel").await), ["b"]);
    assert_eq!(ids(&server.get("/api/dead?handler=other").await), Vec::<String>::new());
    assert!(!ids(&server.get("/api/dead?older-than=1h").await).contains(&"b".to_owned()));
    assert_eq!(server.get("/api/dead?limit=0").await.status, 400);
    let one = server.get("/api/dead/b").await.json();
    assert_eq!((one["reason"].as_str(), one["event"]["id"].as_str()), (Some("used up its fuel"), Some("1")));
    assert!(server.get("/api/dead/zzz").await.error().contains("dead letter `zzz` is not known"));

    let queues = server.get("/api/queues").await.json();
    assert_eq!((queues[0]["name"].as_str(), queues[0]["depth"].as_u64()), (Some("events"), Some(1)));
    assert_eq!(server.get("/api/handlers").await.json()[0]["in_flight"], 1);

    let metrics = server.get("/metrics").await;
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    for line in [
        r#"weir_events_received_total{queue="events",handler="mailer"} 1"#,
        r#"weir_events_in_flight{queue="events",handler="mailer"} 1"#,
        r#"weir_queue_depth{queue="events",handler="mailer"} 1"#,
        r#"weir_handler_info{handler="mailer",version="sha256:00"} 1"#,
    ] {
        assert!(metrics.body.contains(line), "{line}");
    }
    assert!(metrics.body.contains(r#"weir_dead_letters{queue="events"}"#));
}

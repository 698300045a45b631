//! Clients that are slow, large, lost or lying.

use super::*;

const SOON: Duration = Duration::from_millis(200);

fn soon() -> Choice {
    let bounds = Bounds { head: SOON, age: SOON * 5, ..Bounds::default() };
    Choice { bounds, body_timeout: Some(SOON), ..Choice::default() }
}

#[tokio::test]
async fn hosts_and_origins_of_others_are_refused_everywhere() {
    let server = start(Choice::default()).await;
    for (headers, status) in [
        ("host: evil.example.com\r\n", 421),
        ("host: localhost.evil.example.com\r\n", 421),
        ("host: weir.example.com:1\r\n", 200),
        ("host: [::1]:1\r\n", 200),
        ("host: localhost\r\nhost: localhost\r\n", 400),
        ("host: localhost\r\norigin: http://evil.example.com\r\n", 403),
        ("host: localhost\r\norigin: null\r\n", 403),
        ("host: localhost\r\nsec-fetch-site: cross-site\r\n", 403),
        ("host: localhost:1\r\norigin: http://localhost:1\r\n", 200),
    ] {
        for line in ["GET /healthz", "GET /metrics"] {
            let answer = server.ask(line, headers, b"").await;
            assert_eq!(answer.status, status, "{line} {headers}: {answer:?}");
        }
        let answer = server.ask("POST /events/events", headers, b"7").await;
        assert_eq!(answer.status, if status == 200 { 202 } else { status }, "{headers}: {answer:?}");
    }
    assert_eq!(server.raw(b"GET /healthz HTTP/1.0\r\n\r\n").await.status, 400);
    let absolute = b"GET http://evil.example.com/healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(server.raw(absolute).await.status, 421);
}

#[tokio::test]
async fn a_body_beyond_its_bound_is_refused_whether_announced_or_not() {
    let server = start(Choice::default()).await;
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let head = "POST /events/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(3));
    let answer = server.raw(chunked.as_bytes()).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    // One that waits for leave to send gets the answer in its place.
    let announced = format!("{head}content-length: 99999999999\r\nexpect: 100-continue\r\n\r\n");
    let answer = server.raw(announced.as_bytes()).await;
    assert_eq!((answer.status, answer.head.contains("connection: close")), (413, true), "{answer:?}");
    // Exactly the bound passes the reading; the attributes make the event too large.
    let whole = format!("{head}content-length: {MAX_EVENT}\r\n\r\n{}", "x".repeat(usize::try_from(MAX_EVENT).unwrap()));
    assert!(server.raw(whole.as_bytes()).await.error().contains("larger than `max-event`"));
    assert_eq!(server.waiting().await, Some(0));
}

#[tokio::test]
async fn malformed_requests_end_without_harm() {
    let server = start(Choice::default()).await;
    let many = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(1_000));
    let long = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\na: {}\r\n\r\n", "x".repeat(1 << 20));
    for request in ["\r\n\r\n\r\n\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &many, &long] {
        let answer = server.raw_lenient(request.as_bytes()).await;
        assert!((400..500).contains(&answer.status) || answer.status == 0, "{answer:?}");
    }
    let early = b"POST /events/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc";
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(early).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(server.waiting().await, Some(0));
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let server = start(soon()).await;
    // Nothing sent, half a head sent, and silence after an answer: each ends by the server's own doing.
    for request in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let answer = server.raw(request.as_bytes()).await;
        assert!([0, 200, 408].contains(&answer.status), "{answer:?}");
    }
    let body = b"POST /events/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc";
    let answer = server.raw(body).await;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(answer.error().contains("to arrive"), "{answer:?}");
    assert_eq!(server.waiting().await, Some(0));
}

#[tokio::test]
async fn connections_are_bounded_and_freed() {
    let bounds = Bounds { connections: 2, head: SOON, ..Bounds::default() };
    let server = start(Choice { bounds, ..Choice::default() }).await;
    let held = [TcpStream::connect(server.address).await.unwrap(), TcpStream::connect(server.address).await.unwrap()];
    // The third is served once the time of one of the first two is over.
    assert_eq!(server.get("/healthz").await.status, 200);
    drop(held);
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_closes_the_socket() {
    let server = start(Choice::default()).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    server.stop.cancel();
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_request_under_way_at_a_stop_is_answered() {
    let server = start(Choice::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /events/events HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // `100 Continue` says that the server is in the middle of the request.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim[..12], b"HTTP/1.1 100");
    server.stop.cancel();
    stream.write_all(b"7").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(Answer::read(&answer).status, 202);
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
    assert_eq!(server.queue.depth().await.unwrap().events, Some(1));
}

impl Running {
    /// Like `raw`, for requests whose answer may come before all was sent.
    async fn raw_lenient(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        Answer::read(&answer)
    }
}

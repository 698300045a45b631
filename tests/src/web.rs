//! A real HTTP server of this process, with TLS if asked. What it answers is scripted by the path:
//!
//! ```text
//! /status/503?retry-after=7   that status, and a header for each pair of the query
//! /large/1000                 so many bytes
//! /drip                       a byte now and then, without end
//! /hang                       nothing
//! /break                      less than it promised
//! /echo                       the request's body
//! anything else               200 and `ok`
//! ```

#![expect(clippy::expect_used, reason = "a test that can't have its server fails there and then")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::redis::certificates;

/// Longest request that it reads.
const REQUEST_MAX: usize = 64 << 20;

/// Between two bytes of `/drip`.
const DRIP: Duration = Duration::from_millis(20);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The first line, without the version: `POST /x?y`.
    pub line: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body, decoded.
    pub body: Vec<u8>,
}

impl Asked {
    /// The value of a header; empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct WebServer {
    runtime: Option<Runtime>,
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    broken_off: Arc<AtomicUsize>,
    /// Its certificate and who signed it.
    folder: Option<TempDir>,
}

impl WebServer {
    /// Without TLS, on a free port of the loopback.
    #[must_use]
    pub fn plain() -> Self {
        Self::start(None)
    }

    /// With TLS, for `localhost` and 127.0.0.1.
    #[must_use]
    pub fn tls() -> Self {
        Self::start(Some(tempfile::tempdir().expect("a temporary folder can be made")))
    }

    fn start(folder: Option<TempDir>) -> Self {
        let acceptor = folder.as_ref().map(|folder| {
            certificates(folder.path());
            let certificate = CertificateDer::from_pem_file(folder.path().join("server.pem")).expect("openssl writes PEM");
            let key = PrivateKeyDer::from_pem_file(folder.path().join("server.key")).expect("openssl writes PEM");
            let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
            let config = config.with_safe_default_protocol_versions().expect("ring has them");
            let config = config.with_no_client_auth().with_single_cert(vec![certificate], key);
            TlsAcceptor::from(Arc::new(config.expect("the key is the certificate's")))
        });
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be made");
        let asked = Arc::default();
        let listener = runtime.block_on(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let broken_off = Arc::default();
        runtime.spawn(serve(listener, acceptor, (Arc::clone(&asked), Arc::clone(&broken_off))));
        Self { runtime: Some(runtime), port, asked, broken_off, folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate (PEM) that signed the server's own.
    #[must_use]
    pub fn root_certificate(&self) -> Vec<u8> {
        let folder = self.folder.as_ref().expect("a server with TLS");
        std::fs::read(folder.path().join("ca.pem")).expect("openssl writes it")
    }

    /// Requests that broke off in their body.
    #[must_use]
    pub fn broken_off(&self) -> usize {
        self.broken_off.load(Ordering::Relaxed)
    }

    /// What was asked so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What came whole, and how many broke off.
type Seen = (Arc<Mutex<Vec<Asked>>>, Arc<AtomicUsize>);

async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>, seen: Seen) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, asked) = (acceptor.clone(), seen.clone());
        // A client that goes away is the client's affair.
        tokio::spawn(async move {
            match acceptor {
                None => answer(stream, asked).await,
                Some(acceptor) => answer(acceptor.accept(stream).await?, asked).await,
            }
        });
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, (asked, broken_off): Seen) -> std::io::Result<()> {
    let Some(request) = read(&mut stream, &broken_off).await? else { return Ok(()) };
    let target = request.line.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = request.body.clone();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut steps = path.split('/').skip(1);
    let (first, second) = (steps.next().unwrap_or_default(), steps.next().unwrap_or_default());
    let plain = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    match first {
        "hang" => std::future::pending().await,
        "drip" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await?;
            loop {
                stream.write_all(b"x").await?;
                stream.flush().await?;
                tokio::time::sleep(DRIP).await;
            }
        }
        "break" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort").await?,
        "large" => stream.write_all(&plain("200", "", &vec![b'x'; second.parse().unwrap_or_default()])).await?,
        "echo" => stream.write_all(&plain("200", "", &body)).await?,
        "status" => {
            let headers: String = query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            stream.write_all(&plain(second, &headers, b"so it is")).await?;
        }
        _ => stream.write_all(&plain("200", "", b"ok")).await?,
    }
    stream.shutdown().await
}

/// A whole request; none when the other side had none.
async fn read(stream: &mut (impl AsyncRead + Unpin), broken_off: &AtomicUsize) -> std::io::Result<Option<Asked>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let mut asked = Asked { line, headers, body: bytes.split_off(end + 4) };
    let chunked = asked.header("transfer-encoding") == "chunked";
    let length = asked.header("content-length").parse().unwrap_or(0);
    let is_whole = |body: &[u8]| if chunked { body.ends_with(b"0\r\n\r\n") } else { body.len() >= length };
    while !is_whole(&asked.body) && asked.body.len() < REQUEST_MAX {
        // A reset, too, is what a client does that gives up.
        if stream.read_buf(&mut asked.body).await.unwrap_or(0) == 0 {
            broken_off.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
    }
    if chunked {
        asked.body = unchunked(&asked.body);
    }
    Ok(Some(asked))
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(rest, b"\r\n") {
        let size = std::str::from_utf8(rest.get(..end).unwrap_or_default()).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok()).unwrap_or(0);
        let Some(piece) = rest.get(end + 2..end + 2 + size).filter(|piece| !piece.is_empty()) else { break };
        body.extend_from_slice(piece);
        rest = rest.get(end + 2 + size + 2..).unwrap_or_default();
    }
    body
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

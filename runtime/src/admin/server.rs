//! The socket side: connections under bounds, and an orderly end. It knows nothing of routes.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{State, routes};

/// Most connections at once; more wait in the backlog of the socket. Each costs some 100 KB while it talks, and a process may open
/// 1,024 files by default.
pub const CONNECTIONS_MAX: usize = 768;

/// How long a client may take to send the head of a request, and how long a connection may stand idle between two.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of the head of a request: eight times what browsers and proxies send, enough for every attribute that is taken in.
pub const HEAD_MAX: usize = 128 << 10;

/// Headers of a request: 64 extensions, the attributes of CloudEvents, and what clients and proxies add.
pub const HEADERS_MAX: usize = 128;

/// How long a connection may live. It bounds a client that never reads its answers; others open a new one.
pub const CONNECTION_AGE: Duration = Duration::from_secs(600);

/// How long a request that is under way may still take, at a stop or past [`CONNECTION_AGE`]. Longer than a queue may take to answer.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(35);

/// How long nothing is accepted after the system had no file or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The times and numbers that bound connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(super) connections: usize,
    pub(super) head: Duration,
    pub(super) age: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, head: HEAD_TIMEOUT, age: CONNECTION_AGE }
    }
}

/// Answers requests until `shutdown`; then takes no more, lets those under way end, and returns.
pub async fn serve(listener: TcpListener, state: Arc<State>, shutdown: CancellationToken) {
    serve_within(listener, state, shutdown, Bounds::default()).await;
}

/// [`serve`] within bounds that a test can wait for.
pub(super) async fn serve_within(listener: TcpListener, state: Arc<State>, shutdown: CancellationToken, bounds: Bounds) {
    let router = routes::router(&state);
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        // Forget those that have ended.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, place)) => {
                connections.spawn(connection(stream, router.clone(), shutdown.clone(), bounds, place));
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small: waiting to fill a packet would only make them late.
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

/// One connection, from its first byte to its last.
async fn connection(
    stream: TcpStream,
    router: axum::Router,
    shutdown: CancellationToken,
    bounds: Bounds,
    _place: OwnedSemaphorePermit,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = shutdown.cancelled() => None,
        () = tokio::time::sleep(bounds.age) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(CLOSE_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

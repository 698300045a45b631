//! A connection to the server that is made anew whenever it is lost, with growing waits. What is done on one lasts as long as that one.
//!
//! There are two for a queue: the server stops reading one that publishes while it is short of memory or disk, and settlements must not
//! wait for that. Left out: the client's own recovery, which knows neither which messages this process still runs, nor what to say.

use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::tcp::{AMQPUriTcpExt as _, RustlsConnector, TLSConfig};
use lapin::types::LongString;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio_rustls::rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use super::shared::Shared;
use super::tls;
use super::url::AmqpUrl;
use crate::config::Secret;
use crate::queue::QueueError;

/// Waits between attempts: doubled from the first to the longest, each shortened by chance to at least half.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Longest that connecting and logging in may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Where to, and as whom.
pub(super) struct Target {
    pub(super) url: AmqpUrl,
    /// The URL without credentials, for texts.
    pub(super) shown: String,
    /// What this connection is called in the server's lists.
    pub(super) name: String,
}

/// A connection that is up.
pub(super) struct Live {
    connection: Connection,
    /// Counts connections: what came by another one can't be settled by this one.
    pub(super) number: u64,
    /// The server takes nothing at the moment, and why.
    pub(super) blocked: Mutex<Option<String>>,
    /// The same socket once more: to end it without a word.
    socket: Option<std::net::TcpStream>,
}

impl Live {
    /// A channel of its own: what the server refuses on it ends nothing else.
    pub(super) async fn channel(&self) -> Result<Channel, lapin::Error> {
        self.connection.create_channel().await
    }

    fn cut(&self) {
        if let Some(socket) = &self.socket {
            // One that has ended has ended.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }
}

/// How it stands with a connection.
#[derive(Clone)]
pub(super) enum State {
    /// The first attempt has not ended.
    Connecting,
    /// It is up.
    Up(Arc<Live>),
    /// It is down, and tried again.
    Down(Problem),
}

/// A connection over its losses.
pub(super) struct Link {
    pub(super) target: Target,
    state: watch::Sender<State>,
    count: AtomicU64,
    /// It was up, with all that belongs to it.
    pub(super) once: AtomicBool,
    /// It ends because we say so.
    ended: CancellationToken,
}

impl Link {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            state: watch::Sender::new(State::Connecting),
            count: AtomicU64::new(0),
            once: AtomicBool::new(false),
            ended: CancellationToken::new(),
        }
    }

    /// How it stands.
    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// What is up now.
    pub(super) fn up(&self) -> Result<Arc<Live>, Problem> {
        match self.state() {
            State::Up(live) => Ok(live),
            State::Down(problem) => Err(problem),
            State::Connecting => Err(Problem::Away(format!("`{}`: not connected yet", self.target.shown))),
        }
    }

    /// Waits until it is up.
    pub(super) async fn wait(&self) -> Arc<Live> {
        let mut state = self.state.subscribe();
        loop {
            if let State::Up(live) = &*state.borrow_and_update() {
                return Arc::clone(live);
            }
            if state.changed().await.is_err() {
                // It lives as long as what waits.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the first attempt has ended.
    pub(super) async fn settled(&self) -> Result<(), Problem> {
        let mut state = self.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                State::Up(_) => return Ok(()),
                State::Down(problem) => return Err(problem.clone()),
                State::Connecting => {}
            }
            if state.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Waits until this connection is lost.
    pub(super) async fn lost(&self, live: &Live) {
        let mut state = self.state.subscribe();
        while matches!(&*state.borrow_and_update(), State::Up(up) if up.number == live.number) {
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    /// Keeps it up until `ended`. What has to be on the server is made, by who knows, before anybody uses it.
    pub(super) async fn keep(&self, ended: &CancellationToken, maker: Option<&Shared>) {
        let mut failures = 0;
        while !ended.is_cancelled() {
            let problem = tokio::select! {
                problem = self.once(maker, &mut failures) => problem,
                () = ended.cancelled() => break,
            };
            if self.ended.is_cancelled() {
                break;
            }
            if failures == 0 {
                tracing::warn!(url = %self.target.shown, error = problem.text(), "not connected, trying again");
            }
            self.state.send_replace(State::Down(problem));
            tokio::select! {
                () = tokio::time::sleep(backoff(failures, fastrand::f64())) => {}
                () = self.ended.cancelled() => break,
                () = ended.cancelled() => break,
            }
            failures += 1;
        }
        self.state.send_replace(State::Down(Problem::Away(QueueError::Closed.to_string())));
    }

    /// Connects, and waits until that ends.
    async fn once(&self, maker: Option<&Shared>, failures: &mut u32) -> Problem {
        let connected = tokio::time::timeout(CONNECT_MAX * 2, async {
            let (connection, socket) = self.target.connect().await?;
            let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            let live = Arc::new(Live { connection, number, blocked: Mutex::default(), socket });
            if let Some(maker) = maker {
                maker.prepare(&live).await?;
            }
            Ok(live)
        });
        let live = match connected.await {
            Ok(Ok(live)) => live,
            Ok(Err(problem)) => return problem,
            Err(_) => return Problem::Away(format!("`{}`: the server does not answer", self.target.shown)),
        };
        let mut events = std::pin::pin!(live.connection.events_listener());
        *failures = 0;
        self.once.store(true, Ordering::Relaxed);
        self.state.send_replace(State::Up(Arc::clone(&live)));
        let mut why = None;
        while live.is_up() {
            match events.next().await {
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(url = %self.target.shown, reason, "the server takes no messages at the moment");
                    *live.blocked.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                }
                Some(Event::ConnectionUnblocked) => *live.blocked.lock().unwrap_or_else(PoisonError::into_inner) = None,
                Some(Event::Error(error)) => why = Some(error),
                Some(_) => {}
                None => break,
            }
        }
        match why {
            Some(error) => match Problem::of(&self.target.shown, &error) {
                // It was let in before: what it says now is about this one connection.
                Problem::Refused(text) => Problem::Away(text),
                other => other,
            },
            None => Problem::Away(format!("`{}`: the connection was lost", self.target.shown)),
        }
    }

    /// Ends the connection as the end of the process would.
    pub(super) fn cut(&self) {
        self.ended.cancel();
        if let State::Up(live) = self.state.send_replace(State::Down(Problem::Away(QueueError::Closed.to_string()))) {
            live.cut();
        }
    }

    /// Ends the connection as a client should.
    pub(super) async fn end(&self) {
        self.ended.cancel();
        if let State::Up(live) = self.state.send_replace(State::Down(Problem::Away(QueueError::Closed.to_string()))) {
            // One that is lost meanwhile has ended as well.
            let _ = live.connection.close(200, "closed".into()).await;
        }
    }
}

impl Target {
    fn uri(&self) -> AMQPUri {
        let AmqpUrl { host, port, vhost, login, heartbeat, identity, .. } = &self.url;
        let external = login.is_none() && identity.is_some();
        let (username, password) = login.clone().unwrap_or_else(|| ("guest".to_owned(), Secret("guest".to_owned())));
        AMQPUri {
            // TLS is put on what this connects.
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username, password: password.0 },
                host: host.clone(),
                port: *port,
            },
            vhost: vhost.clone(),
            query: AMQPQueryString {
                heartbeat: u16::try_from(heartbeat.as_secs()).ok(),
                auth_mechanism: external.then_some(SASLMechanism::External),
                ..AMQPQueryString::default()
            },
        }
    }

    /// Connects and logs in; the socket once more, to end it without a word.
    pub(super) async fn connect(&self) -> Result<(Connection, Option<std::net::TcpStream>), Problem> {
        let secure = match self.url.tls {
            true => Some(self.tls().await?),
            false => None,
        };
        let socket: Arc<Mutex<Option<std::net::TcpStream>>> = Arc::default();
        let (kept, host) = (Arc::clone(&socket), self.url.host.clone());
        let properties = ConnectionProperties::default().with_connection_name(LongString::from(self.name.as_str()));
        let away = |error: lapin::Error| Problem::of(&self.shown, &error);
        let runtime = lapin::runtime::default_runtime().map_err(away)?;
        let connecting = Connection::connector(
            self.uri(),
            runtime,
            async move |uri, runtime| {
                let stream = uri.connect_with_config_async(TLSConfig::default(), &runtime).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let socket = plain.get_ref().as_fd().try_clone_to_owned()?;
                    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket.into());
                }
                match &secure {
                    Some(config) => Ok(stream.into_rustls(&RustlsConnector::from(Arc::clone(config)), &host).await?),
                    None => Ok(stream),
                }
            },
            properties,
        );
        let connected = match tokio::time::timeout(CONNECT_MAX, connecting).await {
            Ok(connected) => connected.map_err(away),
            Err(_) => Err(Problem::Away(format!("`{}`: the server does not answer", self.shown))),
        };
        let socket = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (connected, socket) {
            (Ok(connection), socket) => Ok((connection, socket)),
            (Err(problem), socket) => {
                if let Some(socket) = socket {
                    // The client's thread would wait for it for ever.
                    let _ = socket.shutdown(Shutdown::Both);
                }
                Err(problem)
            }
        }
    }

    async fn tls(&self) -> Result<Arc<ClientConfig>, Problem> {
        let (authority, identity) = (self.url.authority.clone(), self.url.identity.clone());
        let config = tokio::task::spawn_blocking(move || tls::config(authority.as_deref(), identity.as_ref())).await;
        let config = config.map_err(|error| Problem::Away(format!("`{}`: {error}", self.shown)))?;
        config.map_err(|why| Problem::Refused(format!("`{}`: {why}", self.shown)))
    }
}

/// The wait after so many failures in a row; `chance` lies between 0 and 1.
pub(super) fn backoff(failures: u32, chance: f64) -> Duration {
    let doubled = BACKOFF.0 * 2_u32.saturating_pow(failures.min(16));
    doubled.min(BACKOFF.1).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_differ() {
        assert_eq!(backoff(0, 1.0), BACKOFF.0);
        assert_eq!(backoff(1, 0.0), BACKOFF.0);
        assert_eq!(backoff(40, 1.0), BACKOFF.1);
        assert_eq!(backoff(40, 0.0), BACKOFF.1 / 2);
    }
}

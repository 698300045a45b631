//! The connection to a NATS server: made in the background, and made again by the client when it is lost. What the server says of itself
//! (connected, lost, refused) is kept here, for whoever waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ClientError, ConnectOptions, Event, ServerError};
use tokio::sync::watch;

use super::lock;
use super::url::{Login, NatsUrl};
use crate::queue::{Publish, QueueError};

/// Longest wait for the server to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait for the first connection when a queue is opened; later ones are made in the background.
const FIRST_CONNECTION: Duration = Duration::from_secs(2);

/// Longest wait for an answer; the client's own default is 10 s, which is a third of a lease.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes that wait for their confirmation at once; more wait for room before they are begun. As many messages of one batch, at most
/// half of it, so that two batches can go on at once.
pub(super) const PUBLISHES_MAX: usize = 1_024;

/// Between two pings: a connection on which two went unanswered is given up, so that one that was cut silently is found out in 20 s.
const PING: Duration = Duration::from_secs(5);

/// How long a refusal may come after the answer to what was asked next.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);

/// Waits between connection attempts: doubling from the first to the last, and between half and the whole of it, so that processes do not
/// all come at once.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What the client's event told, for whoever waits or asks.
struct Told {
    problem: Mutex<Option<String>>,
    once: AtomicBool,
    /// Messages that the client dropped, as their reader did not keep up.
    overflow: AtomicU64,
    /// Moves with each connection and each loss of one.
    changes: watch::Sender<u64>,
    /// What the server refused last: the login, or a subject that this user may not use.
    refusals: watch::Sender<Option<String>>,
}

/// A connection that is kept.
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) jetstream: Context,
    /// The queue's URL without credentials, for errors.
    url: String,
    told: Arc<Told>,
}

impl Server {
    /// Begins to connect, and waits a moment for it. The server may be away.
    ///
    /// # Errors
    /// Certificates or credentials that can't be read, or that the server refuses.
    pub(super) async fn open(url: &NatsUrl, name: &str, buffer: usize) -> Result<Arc<Self>, QueueError> {
        let told = Arc::new(Told {
            problem: Mutex::new(Some("not connected yet".to_owned())),
            once: AtomicBool::new(false),
            overflow: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            refusals: watch::Sender::new(None),
        });
        let hears = Arc::clone(&told);
        let options = options(url)
            .await?
            .name(name)
            .retry_on_initial_connect()
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(ANSWER_TIMEOUT))
            .ping_interval(PING)
            .subscription_capacity(buffer)
            .reconnect_delay_callback(wait_before)
            .event_callback(move |event| {
                hears.hear(&event);
                std::future::ready(())
            });
        let address = match url.host.contains(':') {
            true => format!("[{}]:{}", url.host, url.port),
            false => format!("{}:{}", url.host, url.port),
        };
        let client = options.connect(address).await.map_err(|error| QueueError::Invalid(format!("`{url}`: {error}")))?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(ANSWER_TIMEOUT)
            .ack_timeout(ANSWER_TIMEOUT)
            .max_ack_inflight(PUBLISHES_MAX)
            .build(client.clone());
        let server = Arc::new(Self { client, jetstream, url: url.to_string(), told });
        match tokio::time::timeout(FIRST_CONNECTION, server.unless_refused(server.connected())).await {
            Ok(Err(refused)) => Err(refused),
            Ok(Ok(())) | Err(_) => Ok(server),
        }
    }

    async fn connected(&self) {
        let mut changes = self.changes();
        while self.problem().is_some() && changes.changed().await.is_ok() {}
    }

    /// Tells when the connection is lost or made again.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.told.changes.subscribe()
    }

    pub(super) fn connected_once(&self) -> bool {
        self.told.once.load(Ordering::Relaxed)
    }

    /// Why it can't be used now; none: it can.
    pub(super) fn problem(&self) -> Option<String> {
        match self.client.connection_state() {
            State::Connected => None,
            _ => Some(lock(&self.told.problem).clone().unwrap_or_else(|| "not connected".to_owned())),
        }
    }

    /// Asked before anything that would otherwise wait in the client's buffer for the server to come back.
    pub(super) fn check(&self) -> Result<(), QueueError> {
        self.problem().map_or(Ok(()), |problem| Err(QueueError::Unavailable(format!("`{}`: {problem}", self.url))))
    }

    /// Waits for an answer, unless the server says meanwhile that we may not ask: it answers nothing then.
    ///
    /// # Errors
    /// What was refused. It may be another's request: then that one's permission is missing.
    pub(super) async fn unless_refused<T>(&self, answer: impl Future<Output = T>) -> Result<T, QueueError> {
        let mut refusals = self.told.refusals.subscribe();
        let refused = async {
            while refusals.changed().await.is_ok() {
                let refused = refusals.borrow_and_update().clone();
                if let Some(refused) = refused {
                    return refused;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            refused = refused => Err(self.invalid(refused)),
        }
    }

    /// The URL or what it names can't be used: says which.
    pub(super) fn invalid(&self, what: impl std::fmt::Display) -> QueueError {
        QueueError::Invalid(format!("`{}`: {what}", self.url))
    }

    /// It did not work this time.
    pub(super) fn away(&self, what: impl std::fmt::Display) -> QueueError {
        QueueError::Unavailable(format!("`{}`: {what}", self.url))
    }

    /// Waits until the server has read all that was sent so far: it has answered what came after it. `first` is what was sent to for the
    /// first time: then it is waited a moment for the server's word that we may not.
    pub(super) async fn read_all(&self, first: Option<&str>) -> Result<(), QueueError> {
        let mut refusals = self.told.refusals.subscribe();
        // Nobody listens there, and the server says so at once. One who may not publish there is told that at once too.
        let inbox = self.client.new_inbox();
        match self.unless_refused(self.client.request(inbox, bytes::Bytes::new())).await {
            Ok(Ok(_)) | Err(QueueError::Invalid(_)) => {}
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {}
            Ok(Err(error)) => return Err(self.away(format!("not confirmed: {error}"))),
            Err(error) => return Err(error),
        }
        let Some(about) = first.map(|about| format!("\"{about}\"")) else { return Ok(()) };
        let refused = refusals.wait_for(|refused| refused.as_ref().is_some_and(|refused| refused.contains(&about)));
        // The client tells of a refusal by another way than of an answer: it may come a little later.
        match tokio::time::timeout(REFUSAL_WAIT, refused).await {
            Ok(Ok(refused)) => Err(self.invalid(refused.as_deref().unwrap_or_default())),
            _ => Ok(()),
        }
    }

    /// Whether one of these is larger than the server takes.
    pub(super) fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        let bound = self.client.max_payload() as u64;
        let size = batch.iter().map(|publish| publish.event.size() as u64).max()?;
        (size > bound).then_some(QueueError::TooLarge { size, bound })
    }

    /// How many messages the client has dropped.
    pub(super) fn overflow(&self) -> u64 {
        self.told.overflow.load(Ordering::Relaxed)
    }

    /// The connection answers nothing: it is made anew, long before its pings would tell.
    pub(super) async fn stalled(&self) {
        // An error says that the client has ended; then there is nothing to make.
        let _ = self.client.force_reconnect().await;
    }
}

impl Told {
    fn hear(&self, event: &Event) {
        let problem = match event {
            Event::Connected => {
                self.once.store(true, Ordering::Relaxed);
                None
            }
            Event::ServerError(ServerError::Other(text)) if text.to_lowercase().contains("permissions violation") => {
                let text = format!("the server refuses it: {text} [allow this user that subject]");
                tracing::warn!("{text}");
                self.refuse(text);
                return;
            }
            Event::ServerError(ServerError::AuthorizationViolation) => {
                let text = "the server refuses this login: authorization violation";
                self.refuse(text.to_owned());
                Some(text.to_owned())
            }
            Event::ClientError(ClientError::Other(text)) if is_refusal(text) => {
                let text = format!("the server refuses this login: {text}");
                self.refuse(text.clone());
                Some(text)
            }
            Event::SlowConsumer(_) => {
                self.overflow.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Event::Disconnected => Some("the connection is lost".to_owned()),
            Event::ServerError(_) | Event::ClientError(_) | Event::Closed => Some(event.to_string()),
            _ => return,
        };
        *lock(&self.problem) = problem;
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn refuse(&self, text: String) {
        self.refusals.send_replace(Some(text));
    }
}

/// Whether the client's words for a failed connection say that the login is at fault.
fn is_refusal(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("authorization") || text.contains("authentication")
}

async fn options(url: &NatsUrl) -> Result<ConnectOptions, QueueError> {
    let mut options = ConnectOptions::new().require_tls(url.tls);
    options = match &url.login {
        None => options,
        Some(Login::Password(user, password)) => options.user_and_password(user.clone(), password.0.clone()),
        Some(Login::Token(token)) => options.token(token.0.clone()),
        Some(Login::Credentials(file)) => {
            let read = options.credentials_file(file).await;
            read.map_err(|error| QueueError::Invalid(format!("`{url}`: credentials {}: {error}", file.display())))?
        }
    };
    if let Some(authority) = &url.authority {
        options = options.add_root_certificates(authority.clone());
    }
    if let Some((cert, key)) = &url.identity {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options)
}

fn wait_before(attempt: usize) -> Duration {
    // The first one at once: nobody else has lost anything yet.
    let Some(doublings) = attempt.checked_sub(2) else { return Duration::ZERO };
    let doublings = u32::try_from(doublings).unwrap_or(u32::MAX).min(16);
    let whole = RECONNECT.0.saturating_mul(1 << doublings).min(RECONNECT.1);
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

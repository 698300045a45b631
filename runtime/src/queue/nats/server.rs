//! The connection to a NATS server: made in the background, and made again by the client when it is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event};

use super::lock;
use super::url::{JetStreamUrl, Login};
use crate::queue::QueueError;

/// Longest wait for the server to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait for an answer; the client's own default.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes that wait for their confirmation at once; more wait for room.
const PUBLISHES_MAX: usize = 1_024;

/// Waits between connection attempts: doubling from the first to the last, and between half and the whole of it, so that processes do not
/// all come at once.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A connection that is kept.
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) jetstream: Context,
    problem: Arc<Mutex<Option<String>>>,
    pub(super) once: Arc<AtomicBool>,
}

impl Server {
    /// Begins to connect. The server may be away.
    ///
    /// # Errors
    /// Certificates or credentials that can't be read.
    pub(super) async fn new(url: &JetStreamUrl, name: &str) -> Result<Self, QueueError> {
        let problem = Arc::new(Mutex::new(Some("not connected yet".to_owned())));
        let once = Arc::new(AtomicBool::new(false));
        let (told, connected) = (Arc::clone(&problem), Arc::clone(&once));
        let options = options(url)
            .await?
            .name(name)
            .retry_on_initial_connect()
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(ANSWER_TIMEOUT))
            .reconnect_delay_callback(wait_before)
            .event_callback(move |event| {
                match &event {
                    Event::Connected => connected.store(true, Ordering::Relaxed),
                    Event::Disconnected | Event::ServerError(_) | Event::ClientError(_) | Event::Closed => {}
                    _ => return std::future::ready(()),
                }
                *lock(&told) = (!matches!(event, Event::Connected)).then(|| event.to_string());
                std::future::ready(())
            });
        let address = match url.host.contains(':') {
            true => format!("[{}]:{}", url.host, url.port),
            false => format!("{}:{}", url.host, url.port),
        };
        let client = options.connect(address).await.map_err(|error| QueueError::Invalid(format!("{url}: {error}")))?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(ANSWER_TIMEOUT)
            .ack_timeout(ANSWER_TIMEOUT)
            .max_ack_inflight(PUBLISHES_MAX)
            .build(client.clone());
        Ok(Self { client, jetstream, problem, once })
    }

    /// Why it can't be used now; none: it can.
    pub(super) fn problem(&self) -> Option<String> {
        match self.client.connection_state() {
            State::Connected => None,
            _ => Some(lock(&self.problem).clone().unwrap_or_else(|| "not connected".to_owned())),
        }
    }

    /// Asked before anything that would otherwise wait in the client's buffer for the server to come back.
    pub(super) fn check(&self) -> Result<(), QueueError> {
        self.problem().map_or(Ok(()), |problem| Err(QueueError::Unavailable(problem)))
    }
}

async fn options(url: &JetStreamUrl) -> Result<ConnectOptions, QueueError> {
    let mut options = ConnectOptions::new().require_tls(url.tls);
    options = match &url.login {
        None => options,
        Some(Login::Password(user, password)) => options.user_and_password(user.clone(), password.0.clone()),
        Some(Login::Token(token)) => options.token(token.0.clone()),
        Some(Login::Credentials(file)) => {
            let read = options.credentials_file(file).await;
            read.map_err(|error| QueueError::Invalid(format!("{url}: credentials {}: {error}", file.display())))?
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
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let whole = RECONNECT.0.saturating_mul(1 << doublings).min(RECONNECT.1);
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

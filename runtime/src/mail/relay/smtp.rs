//! An SMTP relay: connections kept for the next message, and one message handed over a connection.
//!
//! Why not lettre's own transport: it gives a connection back to its pool even when a send was dropped half-way, so the next message
//! would read the answers of the last; and it does not say which recipient was refused. Its connection, TLS and protocol are used as
//! they are. A connection belongs to the one hand-over that uses it: when that is dropped, so is the connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::said;
use crate::config::{RelayTls, Secret};
use crate::mail::MailError;
use crate::mail::mailer::GrantError;

/// Most connections to one relay at once: relays commonly take ten to twenty from one client.
const CONNECTIONS_MAX: usize = 10;
/// How long a connection is kept for the next message: well below the minute or more that relays wait.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Most messages over one connection: many relays end it at a hundred.
const MESSAGES_MAX: u32 = 100;
/// How long to wait for a connection to one address of the relay, before the next is tried.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// How long a connection that was kept may take for its first answer, before a new one is made.
const STALE_MAX: Duration = Duration::from_secs(5);
/// How long a goodbye may take.
const QUIT_MAX: Duration = Duration::from_secs(2);
/// 5xx answers that are about our connection, not about the message: the operator has to mend the relay's URL, and no mail is lost
/// meanwhile. Authentication required, mechanism too weak, credentials invalid, encryption required.
const NOT_THE_MESSAGE: [&str; 4] = ["530", "534", "535", "538"];

/// Where a relay is and how it is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: RelayTls,
    pub(super) credentials: Option<(String, Secret)>,
}

/// A relay and its idle connections.
pub(crate) struct SmtpRelay {
    server: Server,
    name: String,
    hello: ClientId,
    // None only for `tls=none`.
    tls: Option<TlsParameters>,
    places: Arc<Semaphore>,
    // The most recently used one last. Held to push and pop, never across an await.
    idle: Mutex<Vec<Kept>>,
    reaping: AtomicBool,
}

struct Kept {
    connection: AsyncSmtpConnection,
    messages: u32,
    since: Instant,
}

/// A message that was not taken.
struct Failure {
    error: MailError,
    /// The relay answered and waits for the next command.
    usable: bool,
    /// The connection was dead before anything of this message was said.
    stale: bool,
}

impl SmtpRelay {
    pub(super) fn new(mut server: Server, roots: &[Certificate]) -> Result<Self, GrantError> {
        server.host = server.host.trim_matches(['[', ']']).to_owned();
        let scheme = if server.tls == RelayTls::Implicit { "smtps" } else { "smtp" };
        let name = format!("{scheme}://{}:{}", server.host, server.port);
        let tls = match server.tls {
            RelayTls::None => None,
            RelayTls::StartTls | RelayTls::Implicit => {
                let mut tls = TlsParameters::builder(server.host.clone());
                for root in roots {
                    tls = tls.add_root_certificate(root.clone());
                }
                let tls = tls.build().map_err(|error| GrantError(format!("relay `{name}`: TLS can't be set up ({error})")))?;
                Some(tls)
            }
        };
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ok(Self {
            server,
            name,
            hello: ClientId::default(),
            tls,
            places,
            idle: Mutex::default(),
            reaping: AtomicBool::new(false),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn places(&self) -> &Arc<Semaphore> {
        &self.places
    }

    pub(super) async fn hand_over(self: &Arc<Self>, envelope: &Envelope, message: &[u8]) -> Result<(), MailError> {
        if let Some(mut kept) = self.take_idle() {
            match self.transact(&mut kept.connection, envelope, message, STALE_MAX).await {
                Err(failure) if failure.stale => {
                    // The others are most likely dead as well: the relay was restarted, or ends what is idle early.
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                result => return self.ended(kept, result).await,
            }
        }
        let connection = self.connect().await?;
        let mut kept = Kept { connection, messages: 0, since: Instant::now() };
        let result = self.transact(&mut kept.connection, envelope, message, Duration::MAX).await;
        self.ended(kept, result).await
    }

    fn take_idle(&self) -> Option<Kept> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| kept.since.elapsed() < IDLE_MAX);
        idle.pop()
    }

    /// Keeps the connection for the next message where it is fit for one.
    async fn ended(self: &Arc<Self>, mut kept: Kept, result: Result<(), Failure>) -> Result<(), MailError> {
        kept.messages += 1;
        let fit = match &result {
            Ok(()) => true,
            Err(failure) => failure.usable && kept.connection.command("RSET\r\n").await.is_ok(),
        };
        if fit && kept.messages < MESSAGES_MAX {
            kept.since = Instant::now();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
            self.reap();
        } else if fit {
            quit(kept.connection).await;
        }
        result.map_err(|failure| failure.error)
    }

    /// Sees that idle connections are closed in time, while there are any.
    fn reap(self: &Arc<Self>) {
        if self.reaping.swap(true, Ordering::AcqRel) {
            return;
        }
        let relay = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE_MAX / 2).await;
                let Some(relay) = relay.upgrade() else { return };
                let (old, left) = {
                    let mut idle = relay.idle.lock().unwrap_or_else(PoisonError::into_inner);
                    let old: Vec<_> = idle.extract_if(.., |kept| kept.since.elapsed() >= IDLE_MAX / 2).collect();
                    let left = idle.len();
                    if left == 0 {
                        relay.reaping.store(false, Ordering::Release);
                    }
                    (old, left)
                };
                for kept in old {
                    quit(kept.connection).await;
                }
                if left == 0 {
                    return;
                }
            }
        });
    }

    /// Connects, secures and authenticates. Whatever fails here is not about the message: nothing is a rejection.
    async fn connect(&self) -> Result<AsyncSmtpConnection, MailError> {
        let away = |error: &Error| self.unavailable(&said(error));
        let address = (self.server.host.as_str(), self.server.port);
        let implicit = self.tls.clone().filter(|_| self.server.tls == RelayTls::Implicit);
        let mut connection = AsyncSmtpConnection::connect_tokio1(address, Some(CONNECT_MAX), &self.hello, implicit, None)
            .await
            .map_err(|error| away(&error))?;
        if let (RelayTls::StartTls, Some(tls)) = (self.server.tls, self.tls.clone()) {
            connection.starttls(tls, &self.hello).await.map_err(|error| away(&error))?;
        }
        if let Some((user, Secret(password))) = &self.server.credentials {
            let credentials = Credentials::new(user.clone(), password.clone());
            // The relay's own words are left out: some repeat what they were given.
            connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(|error| match error.status() {
                Some(code) => self.unavailable(&format!("it refuses the credentials ({code})")),
                None if error.is_client() => self.unavailable("it offers no way to authenticate that Weir knows (PLAIN, LOGIN)"),
                None => self.unavailable("authentication failed"),
            })?;
        }
        Ok(connection)
    }

    /// One message, to all recipients or to none: its content is only sent once every recipient was taken.
    async fn transact(
        &self,
        connection: &mut AsyncSmtpConnection,
        envelope: &Envelope,
        message: &[u8],
        first_answer: Duration,
    ) -> Result<(), Failure> {
        let mail = Mail::new(envelope.from().cloned(), Vec::new());
        match timeout(first_answer, connection.command(mail)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let mut failure = self.failure("the sender", &error);
                failure.stale = !failure.usable;
                return Err(failure);
            }
            Err(_) => return Err(Failure { error: self.unavailable("no answer"), usable: false, stale: true }),
        }
        for recipient in envelope.to() {
            let rcpt = Rcpt::new(recipient.clone(), Vec::new());
            connection.command(rcpt).await.map_err(|error| self.failure(&format!("recipient `{recipient}`"), &error))?;
        }
        connection.command(Data).await.map_err(|error| self.failure("the message", &error))?;
        connection.message(message).await.map_err(|error| self.failure("the message", &error))?;
        Ok(())
    }

    fn failure(&self, what: &str, error: &Error) -> Failure {
        let code = error.status().map(|code| code.to_string());
        let permanent = error.is_permanent() && !code.as_deref().is_some_and(|code| NOT_THE_MESSAGE.contains(&code));
        let usable = code.is_some_and(|code| code != "421");
        let error = match (permanent, usable) {
            (true, _) => MailError::Rejected(format!("relay `{}` refuses {what}: {}", self.name, said(error))),
            (false, true) => self.unavailable(&format!("it does not take {what} now: {}", said(error))),
            (false, false) => self.unavailable(&said(error)),
        };
        Failure { error, usable, stale: false }
    }

    fn unavailable(&self, why: &str) -> MailError {
        MailError::Unavailable(format!("relay `{}`: {why}", self.name))
    }
}

async fn quit(mut connection: AsyncSmtpConnection) {
    // A goodbye that fails changes nothing: the connection is closed all the same.
    let _ = timeout(QUIT_MAX, connection.quit()).await;
}

impl std::fmt::Debug for SmtpRelay {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("SmtpRelay").field("name", &self.name).finish_non_exhaustive()
    }
}

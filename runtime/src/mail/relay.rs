//! Where mail goes: relays, shared by the handlers that name the same one, and what they share in this process.

pub(super) mod capture;
mod file;
mod smtp;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use lettre::address::Envelope;
use lettre::transport::smtp::client::Certificate;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::capture::{Captured, CapturedMail};
use super::MailError;
use super::ledger::Ledger;
use super::mailer::GrantError;
use super::rate::Limiter;
use crate::config::{Rate, Relay};
use crate::store::{MailIdentity, Store};

/// Most KiB of messages being handed over at once. A hand-over outlives the guest that asked for it, so nothing else bounds them.
const UNDER_WAY_KIB: u32 = 256 << 10;
/// Least that a hand-over counts for, in KiB: its task and buffers; 4,096 of them fill the bound.
const HAND_OVER_KIB: usize = 64;

/// Handing over to nowhere takes no time: one at a time keeps the order.
const NOWHERE_PLACES: usize = 1;

/// The relays of one process and what all mail of it shares: the ledger of what was sent, the rates, and the bound on memory.
#[derive(Debug)]
pub struct Relays {
    /// Hand-overs run here, whatever becomes of the guest's own runtime.
    pub(super) runtime: Handle,
    pub(super) ledger: Arc<Ledger>,
    pub(super) under_way: Arc<Semaphore>,
    // What was handed over is kept here too: for a trial.
    pub(super) captured: Option<Arc<Captured>>,
    /// Where mail goes instead of to the relay that a grant names.
    instead: Option<Arc<Transport>>,
    roots: Vec<Certificate>,
    // Weak: a relay that no handler names any more closes its connections. Held for one look.
    relays: Mutex<Vec<(Relay, Weak<Transport>)>>,
    // By handler: a handler that is loaded anew keeps its turns. Held for one look.
    limiters: Mutex<HashMap<String, (Rate, Arc<Limiter>)>>,
}

/// One relay that takes messages.
#[derive(Debug)]
pub(super) enum Transport {
    File(file::FileRelay),
    Smtp(Arc<smtp::SmtpRelay>),
    /// Nowhere: what is handed over was captured, and that is all.
    Nowhere(Arc<Semaphore>),
}

impl Relays {
    /// Relays whose hand-overs run on `runtime`, with what was sent kept in `store` for `mail_kept`.
    #[must_use]
    pub fn new(store: Arc<Store>, mail_kept: Duration, runtime: Handle) -> Self {
        Self::over(Ledger::new(Some(store), mail_kept), runtime)
    }

    /// Relays that hand nothing over, whatever relay a grant names: for a trial. Grants, contents, numbers and rates are checked and
    /// messages written as always; [`Relays::captured`] has them. They know of no mail that was sent before.
    #[must_use]
    pub fn nowhere(runtime: Handle) -> Self {
        let nowhere = Transport::Nowhere(Arc::new(Semaphore::new(NOWHERE_PLACES)));
        Self { instead: Some(Arc::new(nowhere)), ..Self::over(Ledger::new(None, Duration::MAX), runtime) }.capturing()
    }

    /// Keeps what is handed over, to be shown: see [`Relays::captured`].
    #[must_use]
    pub fn capturing(self) -> Self {
        Self { captured: Some(Arc::default()), ..self }
    }

    fn over(ledger: Ledger, runtime: Handle) -> Self {
        Self {
            runtime,
            ledger: Arc::new(ledger),
            under_way: Arc::new(Semaphore::new(UNDER_WAY_KIB as usize)),
            captured: None,
            instead: None,
            roots: Vec::new(),
            relays: Mutex::default(),
            limiters: Mutex::default(),
        }
    }

    /// Trusts a further root certificate (PEM), beside the system's and those of `SSL_CERT_FILE`.
    ///
    /// # Errors
    /// When it is not a certificate.
    pub fn with_root_certificate(mut self, pem: &[u8]) -> Result<Self, GrantError> {
        let certificate =
            Certificate::from_pem(pem).map_err(|error| GrantError(format!("root certificate can't be read ({error})")))?;
        self.roots.push(certificate);
        Ok(self)
    }

    /// Waits until no mail is being handed over: for a shutdown, which bounds it. A mail half sent is finished even when its guest is
    /// past its deadline, for up to a minute.
    pub async fn idle(&self) {
        self.ledger.idle().await;
    }

    /// Takes what was handed over since the last time, in that order; nothing unless these relays are capturing.
    #[must_use]
    pub fn captured(&self) -> Vec<CapturedMail> {
        self.captured.as_ref().map(|captured| captured.take()).unwrap_or_default()
    }

    pub(super) fn transport(&self, relay: &Relay) -> Result<Arc<Transport>, GrantError> {
        if let Some(instead) = &self.instead {
            return Ok(Arc::clone(instead));
        }
        let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        relays.retain(|(_, transport)| transport.strong_count() > 0);
        if let Some(transport) = relays.iter().find(|(known, _)| known == relay).and_then(|(_, transport)| transport.upgrade()) {
            return Ok(transport);
        }
        let transport = Arc::new(match relay {
            Relay::File(folder) => Transport::File(file::FileRelay::new(folder.clone())),
            Relay::Smtp { host, port, tls, credentials } => {
                let server = smtp::Server { host: host.clone(), port: *port, tls: *tls, credentials: credentials.clone() };
                Transport::Smtp(Arc::new(smtp::SmtpRelay::new(server, &self.roots)?))
            }
        });
        relays.push((relay.clone(), Arc::downgrade(&transport)));
        Ok(transport)
    }

    pub(super) fn limiter(&self, handler: &str, rate: Rate) -> Arc<Limiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        match limiters.get(handler) {
            Some((known, limiter)) if *known == rate => Arc::clone(limiter),
            _ => {
                let limiter = Arc::new(Limiter::new(handler, rate, self.ledger.store()));
                limiters.insert(handler.to_owned(), (rate, Arc::clone(&limiter)));
                limiter
            }
        }
    }

    /// What a message of so many bytes takes of `under_way`.
    pub(super) fn weight(bytes: usize) -> u32 {
        u32::try_from((bytes >> 10).max(HAND_OVER_KIB)).unwrap_or(UNDER_WAY_KIB).min(UNDER_WAY_KIB)
    }
}

impl Transport {
    /// Places for hand-overs at once: connections, or files being written.
    pub(super) fn places(&self) -> &Arc<Semaphore> {
        match self {
            Self::File(relay) => relay.places(),
            Self::Smtp(relay) => relay.places(),
            Self::Nowhere(places) => places,
        }
    }

    /// Hands one message over, once. Must run to its end or be dropped: nothing of it is used again after a drop.
    pub(super) async fn hand_over(&self, identity: &MailIdentity, envelope: &Envelope, message: &[u8]) -> Result<(), MailError> {
        match self {
            Self::File(relay) => relay.hand_over(identity, envelope, message).await,
            Self::Smtp(relay) => relay.hand_over(envelope, message).await,
            Self::Nowhere(_) => Ok(()),
        }
    }

    /// The relay as people know it, without credentials.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::File(relay) => relay.name(),
            Self::Smtp(relay) => relay.name(),
            Self::Nowhere(_) => "nowhere",
        }
    }
}

/// Text that a relay or the system answered, as it may stand in an error.
fn said(error: &dyn std::fmt::Display) -> String {
    const SAID_CHARS: usize = 300;
    error.to_string().chars().map(|char| if char.is_control() { ' ' } else { char }).take(SAID_CHARS).collect()
}

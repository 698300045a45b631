//! Mail of one handler: its grant, and the way of a message from the guest's call to the relay.
//!
//! The hand-over runs in a task of its own: a guest that is past its deadline leaves a mail that is finished and recorded. Only while it
//! waits for its turn, with nothing said to the relay yet, is it given up when nobody waits for it any more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lettre::address::Envelope;
use lettre::message::Mailbox;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::address::{self, Pattern};
use super::compose::{Heading, compose};
use super::content::{self, Addresses};
use super::identity::{self, MailRun};
use super::ledger::{Begun, HandOver, Ledger, Waiting};
use super::rate::{Limiter, NoTurn};
use super::relay::capture::{Captured, CapturedMail};
use super::relay::{Relays, Transport};
use super::{MailError, Message};
use crate::clock;
use crate::config::EmailGrant;
use crate::store::MailIdentity;

/// How much longer than its guest a hand-over may take: a relay may answer late, and the answer decides whether the mail went.
const HAND_OVER_AFTER: Duration = Duration::from_secs(60);

/// A grant that can't be used: names the key, what was found and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GrantError(pub(super) String);

/// Sends the mail of one handler.
#[derive(Debug)]
pub struct Mailer {
    handler: String,
    grant: Grant,
    transport: Arc<Transport>,
    limiter: Option<Arc<Limiter>>,
    ledger: Arc<Ledger>,
    under_way: Arc<Semaphore>,
    runtime: tokio::runtime::Handle,
    /// Keeps what was handed over, for a trial.
    captured: Option<Arc<Captured>>,
}

#[derive(Debug)]
struct Grant {
    sender: Mailbox,
    patterns: Vec<Pattern>,
}

impl Grant {
    fn parse(handler: &str, grant: &EmailGrant) -> Result<Self, GrantError> {
        let sender = address::parse("from", &grant.from)
            .map_err(|error| GrantError(format!("handler.{handler}.grants.email: {error}")))?;
        let patterns = grant.to.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>();
        let patterns = patterns.map_err(|error| GrantError(format!("handler.{handler}.grants.email.to: {error}")))?;
        Ok(Self { sender, patterns })
    }
}

/// A message on its way.
struct Job {
    identity: MailIdentity,
    message_id: String,
    envelope: Envelope,
    content: Vec<u8>,
    bound: Duration,
    /// The same as values, where it is captured.
    draft: Option<Box<CapturedMail>>,
}

impl Mailer {
    /// Checks a grant without opening anything, for `weir check`.
    ///
    /// # Errors
    /// Names the key and what it should be.
    pub fn check(handler: &str, grant: &EmailGrant) -> Result<(), GrantError> {
        Grant::parse(handler, grant).map(|_| ())
    }

    /// The mailer of `handler`. Nothing is connected or written before the first mail.
    ///
    /// # Errors
    /// When the grant can't be used, or TLS can't be set up.
    pub fn new(handler: &str, grant: &EmailGrant, relays: &Relays) -> Result<Arc<Self>, GrantError> {
        Ok(Arc::new(Self {
            handler: handler.to_owned(),
            transport: relays.transport(&grant.relay)?,
            limiter: grant.rate.map(|rate| relays.limiter(handler, rate)),
            ledger: Arc::clone(&relays.ledger),
            under_way: Arc::clone(&relays.under_way),
            runtime: relays.runtime.clone(),
            captured: relays.captured.clone(),
            grant: Grant::parse(handler, grant)?,
        }))
    }

    /// Hands a message over and answers with its Message-ID; with the first one's when it was sent before. Answers within `bound`.
    /// Everything is checked before this returns; the future may be dropped, and what the relay has begun to take is then finished
    /// without it.
    ///
    /// # Errors
    /// As [`MailError`] says; only `Unavailable` is an outside failure.
    pub fn send(
        self: &Arc<Self>,
        run: &MailRun,
        message: &Message,
        bound: Duration,
    ) -> BoxFuture<'static, Result<String, MailError>> {
        let prepared = self.prepare(run, message, bound);
        let (mailer, run) = (Arc::clone(self), run.clone());
        Box::pin(async move {
            let (job, number) = prepared?;
            let sent = mailer.deliver(job, bound).await;
            if let (Err(_), Some(number)) = (&sent, number) {
                run.failed(number);
            }
            sent
        })
    }

    /// Checks and names a message and writes it as MIME.
    fn prepare(&self, run: &MailRun, message: &Message, bound: Duration) -> Result<(Job, Option<identity::Number>), MailError> {
        let addresses = Addresses::parse(message)?;
        // Counted before it can be refused: else a mail that is refused now and taken in a later attempt would have another's number.
        let number = message.key.is_none().then(|| run.number(&addresses.set(), message));
        let prepare = || {
            addresses.granted(&self.handler, &self.grant.patterns)?;
            content::check(message)?;
            let identity = run.identity(&self.handler, message.key.as_deref(), number);
            let message_id = identity::message_id(&identity, self.grant.sender.email.domain());
            let heading = Heading { sender: &self.grant.sender, message_id: &message_id, date: clock::now() };
            let draft = self.captured.as_ref().map(|_| Box::new(CapturedMail::draft(&heading, &addresses, message)));
            let (envelope, content) = compose(&heading, addresses, message)?;
            Ok(Job { identity, message_id, envelope, content, bound, draft })
        };
        let prepared: Result<Job, MailError> = prepare();
        if let (Err(_), Some(number)) = (&prepared, number) {
            run.failed(number);
        }
        Ok((prepared?, number))
    }

    async fn deliver(self: &Arc<Self>, job: Job, bound: Duration) -> Result<String, MailError> {
        let waiting = match self.ledger.begin(job.identity) {
            Begun::UnderWay(waiting) => waiting,
            Begun::Mine(hand_over, waiting) => {
                let mailer = Arc::clone(self);
                self.runtime.spawn(async move { mailer.carry(job, hand_over).await });
                waiting
            }
        };
        self.wait(waiting, bound).await
    }

    async fn wait(&self, mut waiting: Waiting, bound: Duration) -> Result<String, MailError> {
        let relay = self.transport.name();
        match timeout(bound, waiting.wait_for(Option::is_some)).await {
            Ok(Ok(sent)) => sent.clone().unwrap_or_else(|| Err(MailError::Unavailable(format!("relay `{relay}`: no result")))),
            Ok(Err(_)) => Err(MailError::Unavailable(format!("relay `{relay}`: the hand-over ended without a result"))),
            Err(_) => Err(MailError::Unavailable(format!(
                "relay `{relay}` has not answered within {} ms; the hand-over is finished without this call",
                bound.as_millis()
            ))),
        }
    }

    /// The task of one mail: waits for its turn, hands it over, records it.
    async fn carry(&self, job: Job, mut hand_over: HandOver) {
        if let Some(message_id) = hand_over.taken.clone() {
            return hand_over.taken(message_id).await;
        }
        match hand_over.sent_before().await {
            Ok(None) => {}
            Ok(Some(message_id)) => return hand_over.known(message_id),
            Err(error) => return hand_over.failed(error),
        }
        let turn = {
            let turn = self.turn(&job);
            tokio::pin!(turn);
            loop {
                tokio::select! {
                    turn = &mut turn => break turn,
                    () = hand_over.abandoned() => match hand_over.give_up() {
                        Ok(()) => return,
                        Err(wanted) => hand_over = wanted,
                    },
                }
            }
        };
        let _places = match turn {
            Ok(places) => places,
            Err(error) => return hand_over.failed(error),
        };
        let within = job.bound.saturating_add(HAND_OVER_AFTER);
        match timeout(within, self.transport.hand_over(&job.identity, &job.envelope, &job.content)).await {
            Ok(Ok(())) => {
                tracing::debug!(handler = %self.handler, message_id = %job.message_id, "mail handed over");
                if let (Some(captured), Some(draft)) = (&self.captured, job.draft) {
                    captured.keep(*draft, &job.content);
                }
                hand_over.taken(job.message_id).await;
            }
            Ok(Err(error)) => hand_over.failed(error),
            Err(_) => {
                let (relay, seconds) = (self.transport.name(), within.as_secs());
                hand_over.failed(MailError::Unavailable(format!("relay `{relay}` has not answered within {seconds} s")));
            }
        }
    }

    fn no_turn(&self, why: &NoTurn) -> MailError {
        let key = format!("`handler.{}.grants.email.rate`", self.handler);
        MailError::Unavailable(match why {
            NoTurn::In(wait) => {
                let wait = wait.as_millis();
                format!("{key} is used up: the next turn is in {wait} ms, longer than this call may wait")
            }
            NoTurn::Unknown(error) => format!("what is used up of {key} can't be told: {error}"),
        })
    }

    /// Waits for the granted rate and for a place, at most as long as the call may take.
    async fn turn(&self, job: &Job) -> Result<[OwnedSemaphorePermit; 2], MailError> {
        let now = Instant::now();
        if let Some(limiter) = &self.limiter {
            limiter.turn(job.bound).await.map_err(|why| self.no_turn(&why))?.rung().await;
        }
        let places = async {
            let memory = Arc::clone(&self.under_way).acquire_many_owned(Relays::weight(job.content.len())).await;
            let place = Arc::clone(self.transport.places()).acquire_owned().await;
            Some([memory.ok()?, place.ok()?])
        };
        // Far ahead rather than never: a bound that does not fit the clock is one that nobody reaches.
        let deadline = now.checked_add(job.bound).unwrap_or_else(|| now + HAND_OVER_AFTER);
        match timeout_at(deadline, places).await {
            Ok(Some(places)) => Ok(places),
            _ => Err(MailError::Unavailable(format!("relay `{}`: too many mails are on their way to it", self.transport.name()))),
        }
    }
}

#[cfg(test)]
mod tests;

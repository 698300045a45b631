//! Sees that a mail is handed over once: what is under way, what was sent, and what was sent but could not be recorded yet.
//!
//! A mail that is under way is joined by whoever asks for it again. What was sent stands in the store; the order is: relay, record,
//! answer. A process killed between relay and record sends it again, which can't be closed over SMTP (delivery.md §9).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::MailError;
use crate::clock;
use crate::store::{MailIdentity, Store};

/// Most mails remembered that the relay took and the store did not: the time it takes to free a full disk, at a mail or two a second.
const UNRECORDED_MAX: usize = 10_000;

/// What became of a mail: its Message-ID, or why it was not handed over.
pub(super) type Sent = Result<String, MailError>;
/// Where it will be told.
pub(super) type Waiting = watch::Receiver<Option<Sent>>;

/// What this process knows of mails sent.
#[derive(Debug)]
pub(super) struct Ledger {
    // None where mail is captured: what is taken then is known for as long as the ledger lives, and nothing before it.
    store: Option<Arc<Store>>,
    kept: Duration,
    // Held to look and to enter: a mail must not begin twice. Whoever entered it asks the store.
    state: Mutex<State>,
    // How many are under way; changed under the lock above.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    under_way: HashMap<MailIdentity, Arc<watch::Sender<Option<Sent>>>>,
    unrecorded: HashMap<MailIdentity, String>,
}

/// What is to be done about a mail.
#[derive(Debug)]
pub(super) enum Begun {
    /// Wait: it is under way.
    UnderWay(Waiting),
    /// Hand it over.
    Mine(HandOver, Waiting),
}

/// The one hand-over of a mail that is under way. Dropping it undone tells those who wait.
#[derive(Debug)]
pub(super) struct HandOver {
    ledger: Arc<Ledger>,
    identity: MailIdentity,
    told: Arc<watch::Sender<Option<Sent>>>,
    /// The relay has taken it before, and only the record is missing.
    pub(super) taken: Option<String>,
}

impl Ledger {
    pub(super) fn new(store: Option<Arc<Store>>, kept: Duration) -> Self {
        Self { store, kept, state: Mutex::default(), count: watch::Sender::new(0) }
    }

    pub(super) fn store(&self) -> Option<Arc<Store>> {
        self.store.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no mail is under way.
    pub(super) async fn idle(&self) {
        // The sender lives as long as the ledger, so there is always a next value.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Takes a mail off those under way.
    fn remove(&self, state: &mut State, identity: &MailIdentity) {
        state.under_way.remove(identity);
        self.count.send_replace(state.under_way.len());
    }

    pub(super) fn begin(self: &Arc<Self>, identity: MailIdentity) -> Begun {
        let mut state = self.state();
        if let Some(told) = state.under_way.get(&identity) {
            return Begun::UnderWay(told.subscribe());
        }
        let taken = state.unrecorded.get(&identity).cloned();
        let (told, waiting) = watch::channel(None);
        let told = Arc::new(told);
        state.under_way.insert(identity, Arc::clone(&told));
        self.count.send_replace(state.under_way.len());
        Begun::Mine(HandOver { ledger: Arc::clone(self), identity, told, taken }, waiting)
    }

    /// Makes durable that the relay took it.
    async fn record(&self, identity: MailIdentity, message_id: &str) -> Result<(), MailError> {
        let Some(store) = &self.store else {
            self.state().unrecorded.insert(identity, message_id.to_owned());
            return Ok(());
        };
        match store.put_mail(identity, message_id, clock::now().after(self.kept)).await {
            Ok(()) => {
                self.state().unrecorded.remove(&identity);
                Ok(())
            }
            Err(error) => {
                let unrecorded = &mut self.state().unrecorded;
                if unrecorded.len() < UNRECORDED_MAX || unrecorded.contains_key(&identity) {
                    unrecorded.insert(identity, message_id.to_owned());
                } else {
                    tracing::error!(message_id, %error, "a mail was sent and can't be recorded: a retry of its event sends it again");
                }
                Err(MailError::Unavailable(format!("the relay took the mail, but that could not be recorded: {error}")))
            }
        }
    }
}

impl HandOver {
    /// The Message-ID under which the mail was handed over before, as the store knows it. To be asked before anything is handed over.
    pub(super) async fn sent_before(&self) -> Result<Option<String>, MailError> {
        let Some(store) = &self.ledger.store else { return Ok(None) };
        let known = store.mail(&self.identity, clock::now()).await;
        known.map_err(|error| MailError::Unavailable(format!("whether the mail was sent before can't be told: {error}")))
    }

    /// Tells those who wait that it was sent before.
    pub(super) fn known(self, message_id: String) {
        self.end(Ok(message_id));
    }

    /// Waits until nobody waits for this mail any more.
    pub(super) async fn abandoned(&self) {
        self.told.closed().await;
    }

    /// Ends it before anything was handed over, if really nobody waits.
    pub(super) fn give_up(self) -> Result<(), Self> {
        let ledger = Arc::clone(&self.ledger);
        let mut state = ledger.state();
        if self.told.receiver_count() > 0 {
            return Err(self);
        }
        ledger.remove(&mut state, &self.identity);
        Ok(())
    }

    /// Records that the relay took it, then tells those who wait.
    pub(super) async fn taken(self, message_id: String) {
        let recorded = self.ledger.record(self.identity, &message_id).await;
        self.end(recorded.map(|()| message_id));
    }

    /// Tells those who wait that it was not handed over.
    pub(super) fn failed(self, error: MailError) {
        self.end(Err(error));
    }

    fn end(&self, sent: Sent) {
        self.ledger.remove(&mut self.ledger.state(), &self.identity);
        self.told.send_replace(Some(sent));
    }
}

/// A hand-over that panicked must not keep its mail under way for ever.
impl Drop for HandOver {
    fn drop(&mut self) {
        if self.told.borrow().is_some() {
            return;
        }
        let mut state = self.ledger.state();
        let mine = state.under_way.get(&self.identity).is_some_and(|told| Arc::ptr_eq(told, &self.told));
        if mine {
            self.ledger.remove(&mut state, &self.identity);
            drop(state);
            let error = MailError::Unavailable("the hand-over ended without a result, which is a bug in Weir".to_owned());
            self.told.send_replace(Some(Err(error)));
        }
    }
}

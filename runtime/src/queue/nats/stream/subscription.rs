//! One subscription of a stream, a durable pull consumer: what is held of it, and how it is settled.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_nats::Subject;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::lead::Lead;
use super::shared::Shared;
use super::tries::{self, Note};
use crate::clock;
use crate::queue::inbox::Inbox;
use crate::queue::nats::lock;
use crate::queue::{Position, QueueError, Settle, Settlement, Start, Tries};

/// Answers to settlements that are waited for at once.
const SETTLING_MAX: usize = 256;

/// What one message is settled with.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// Where its answers go.
    pub(super) reply: Subject,
    /// Which delivery of it this is, from 1.
    pub(super) delivered: u32,
    /// What is noted beside it.
    pub(super) noted: Option<Note>,
}

/// One subscription.
pub(super) struct Subscription {
    pub(super) name: String,
    /// The durable consumer: the same name, unless the URL names another.
    pub(super) consumer: String,
    /// Where it begins; not set: it was found on the server, and is not made.
    pub(super) start: OnceLock<Start>,
    /// That it was found or made: what is gone after that was removed, and is not made again.
    pub(super) made_once: AtomicBool,
    /// Most messages of one request that the consumer allows; none: to be looked for.
    pub(super) made: Mutex<Option<Made>>,
    /// Whether its reader runs.
    pub(super) reading: AtomicBool,
    /// Set when one process reads at a time.
    pub(super) lead: OnceLock<Lead>,
    pub(super) inbox: Inbox<Token>,
    // Notes to write; std's mutex, for a change. The heartbeat takes them.
    notes: Mutex<BTreeMap<Position, Note>>,
}

/// What a consumer that was found or made allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    /// Most messages of one request.
    pub(super) batch_max: usize,
}

impl Subscription {
    pub(super) fn new(name: &str, consumer: &str, ended: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            consumer: consumer.to_owned(),
            start: OnceLock::new(),
            made_once: AtomicBool::new(false),
            made: Mutex::default(),
            reading: AtomicBool::new(false),
            lead: OnceLock::new(),
            inbox: Inbox::new(ended),
            notes: Mutex::default(),
        })
    }

    /// Whether this process may read and settle: another may be the one that reads.
    pub(super) fn leads(&self, young: Duration) -> bool {
        self.lead.get().is_none_or(|lead| lead.is_ours(young))
    }

    /// Settles, each confirmed by the server; answers what came too late.
    pub(super) async fn settle(&self, shared: &Shared, batch: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        shared.server.check()?;
        let young = if self.leads(shared.young()) { shared.young() } else { Duration::ZERO };
        let plan = self.inbox.hold().plan(batch, Instant::now(), Some(young));
        let mut sent = plan.sent;
        // What is given back comes again in the order in which it was given back.
        sent.sort_by_key(|(settlement, _)| settlement.position);
        let (mut noting, mut answering) = (Vec::new(), Vec::with_capacity(sent.len()));
        for (settlement, token) in sent {
            if let Some(note) = to_note(&settlement, &token) {
                noting.push(shared.bucket.write(&self.consumer, settlement.position, note));
            }
            answering.push(self.answer(shared, settlement, token));
        }
        stream::iter(noting).buffer_unordered(SETTLING_MAX).collect::<()>().await;
        let mut answers = stream::iter(answering).buffered(SETTLING_MAX);
        let mut failed = Ok(plan.late);
        while let Some(answer) = answers.next().await {
            if let Err(error) = answer {
                failed = Err(error);
            }
        }
        failed
    }

    async fn answer(&self, shared: &Shared, settlement: Settlement, token: Token) -> Result<(), QueueError> {
        let Settlement { position, settle } = settlement;
        if settle == Settle::Ack {
            self.confirmed(shared, token.reply, Bytes::from_static(b"+ACK")).await?;
            self.inbox.hold().settled(position);
            lock(&self.notes).remove(&position);
            if token.noted.is_some() {
                shared.bucket.remove(&self.consumer, position).await;
            }
            return Ok(());
        }
        // It may come again, to this process too, before the server has confirmed: then it is another delivery.
        let held = self.inbox.hold().let_go(position);
        lock(&self.notes).remove(&position);
        // Come again since it was looked at: then that one is given back.
        let reply = held.as_ref().map_or(token.reply, |held| held.token.reply.clone());
        let delay = match settle {
            Settle::Retry { due, .. } => due.since(clock::now()).as_nanos(),
            Settle::Ack | Settle::Return => 0,
        };
        let answer = match delay {
            0 => Bytes::from_static(b"-NAK"),
            nanos => Bytes::from(format!("-NAK {{\"delay\": {nanos}}}")),
        };
        let confirmed = self.confirmed(shared, reply, answer).await;
        if confirmed.is_err()
            && let Some(held) = held
        {
            self.inbox.hold().hold_again(position, held);
        }
        confirmed
    }

    /// Tells the server, and waits until it has read that.
    async fn confirmed(&self, shared: &Shared, reply: Subject, answer: Bytes) -> Result<(), QueueError> {
        let confirmed = shared.server.unless_refused(shared.server.client.request(reply, answer)).await?;
        confirmed.map_err(|error| shared.server.away(format!("a settlement was not confirmed: {error}")))?;
        Ok(())
    }

    /// Notes how far an event has got; whether that is to be written.
    pub(super) fn note(&self, position: Position, tries: Tries) -> bool {
        let mut hold = self.inbox.hold();
        let Some(held) = hold.get_mut(position) else { return false };
        // A delivery that is lost counts as a try without a note.
        let note = match tries::behind(held.token.delivered + 1, held.token.noted) == tries {
            true => None,
            false => Some(Note { delivered: held.token.delivered, tries }),
        };
        drop(hold);
        let mut notes = lock(&self.notes);
        match note {
            Some(note) => {
                notes.insert(position, note);
                true
            }
            None => {
                notes.remove(&position);
                false
            }
        }
    }

    /// What is to be written of what is still ours; from now on it counts as written.
    pub(super) fn take_notes(&self) -> Vec<(Position, Note)> {
        let notes = std::mem::take(&mut *lock(&self.notes));
        let mut hold = self.inbox.hold();
        let ours = notes.into_iter().filter(|(position, note)| {
            let held = hold.get_mut(*position);
            held.map(|held| held.token.noted = Some(*note)).is_some()
        });
        ours.collect()
    }

    /// Where renewals go: of all that is ours and was renewed before.
    pub(super) fn to_renew(&self, before: Instant) -> Vec<(Position, Subject)> {
        let hold = self.inbox.hold();
        let due = hold.iter().filter(|(_, held)| held.renewed <= before);
        due.map(|(position, held)| (position, held.token.reply.clone())).collect()
    }

    /// These were ours at that time.
    pub(super) fn renewed(&self, positions: &[(Position, Subject)], at: Instant) {
        let mut hold = self.inbox.hold();
        for (position, reply) in positions {
            // It may have come again meanwhile.
            if let Some(held) = hold.get_mut(*position).filter(|held| held.token.reply == *reply) {
                held.renewed = held.renewed.max(at);
            }
        }
    }

    /// Everything that is ours, in order, to be given back.
    pub(super) fn everything(&self) -> Vec<Settlement> {
        let mut all: Vec<Position> = self.inbox.hold().iter().map(|(position, _)| position).collect();
        all.sort();
        all.into_iter().map(|position| Settlement { position, settle: Settle::Return }).collect()
    }
}

/// What the next delivery has behind it, where the server would count otherwise.
fn to_note(settlement: &Settlement, token: &Token) -> Option<Note> {
    let tries = match settlement.settle {
        Settle::Ack => return None,
        Settle::Retry { tries, .. } => tries,
        Settle::Return => tries::behind(token.delivered, token.noted),
    };
    tries::to_note(token.delivered, tries, token.noted)
}

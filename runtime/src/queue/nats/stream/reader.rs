//! Reads for one subscription, as much as its pulls ask for. A task of its own, so that a pull that is dropped loses nothing.
//!
//! Requests are written by hand, to one inbox that stays: the client's own way subscribes anew for each, forgets what is still on its way
//! when it is dropped (each would be a try), and does not wake a batch that has heartbeats (async-nats 0.51).

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::Message;
use async_nats::{StatusCode, Subscriber};
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::watch;

use super::lead::Taken;
use super::shared::Shared;
use super::subscription::{Subscription, Token};
use crate::queue::nats::{message, published};
use crate::queue::{Delivery, Position, QueueError, not_subscribed};

/// How long the server keeps a request. What it sends to a process that does not answer any more comes again after its lease, so it is short.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// After that a request that the server did not end is forgotten here too.
const REQUEST_MARGIN: Duration = Duration::from_secs(2);

/// Bytes of one request's messages, whatever their number; more where one message may be as large.
const REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// Notes that are read at once, of messages that come again.
const NOTES_MAX: usize = 64;

/// After a problem, before the next attempt: nobody tells that it is over. Attempts to connect are paced by the connection itself.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest wait at the end for what the server has sent.
const DRAIN_MAX: Duration = Duration::from_secs(1);

pub(super) struct Reader {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    changes: watch::Receiver<u64>,
    /// The connection was lost: a server that was killed may have forgotten what it had sent.
    recover: bool,
    inbox: Option<Inbox>,
    /// Its number.
    request: u64,
    /// What it may still bring.
    asked: usize,
    /// When it is over, whether the server says so or not.
    over: Instant,
    /// The messages of a takeover are held until all have come.
    takeover: Option<Takeover>,
}

/// Where messages come.
struct Inbox {
    /// Requests have it with their number.
    prefix: String,
    messages: Subscriber,
}

/// What the last reader had, in order, before anything new.
struct Takeover {
    /// What it had lapses by then.
    at: Instant,
    /// How many there were; none: not asked yet.
    pending: Option<usize>,
    came: Vec<(Delivery, Token)>,
}

/// Reads until the subscription ends; then what was still on its way is taken in, to be given back with the rest.
pub(super) async fn read(shared: Arc<Shared>, subscription: Arc<Subscription>) {
    let changes = shared.server.changes();
    let over = Instant::now();
    let mut reader =
        Reader { shared, subscription, changes, recover: false, inbox: None, request: 0, asked: 0, over, takeover: None };
    let ended = reader.subscription.inbox.ended.clone();
    while !ended.is_cancelled() {
        if let Err(problem) = reader.step().await {
            // Whoever pulls is told, and pulls again after a pause.
            reader.subscription.inbox.fail(problem);
            tokio::select! {
                () = ended.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
    // An answer that does not come lapses.
    let _ = tokio::time::timeout(DRAIN_MAX, reader.drain()).await;
}

impl Reader {
    /// Not to be dropped in the middle: what it has taken from the inbox would be lost.
    async fn step(&mut self) -> Result<(), QueueError> {
        let (shared, subscription) = (Arc::clone(&self.shared), Arc::clone(&self.subscription));
        let ended = &subscription.inbox.ended;
        if self.asked == 0 {
            let forgotten = if self.recover { self.forgotten().await? } else { 0 };
            let wanted = async {
                match forgotten {
                    0 => subscription.inbox.missing().await,
                    forgotten => forgotten,
                }
            };
            let missing = tokio::select! {
                () = ended.cancelled() => return Ok(()),
                _ = self.changes.changed() => {
                    self.recover = true;
                    return Ok(());
                }
                wanted = wanted => wanted,
            };
            let Some(count) = self.may_read(missing).await? else { return Ok(()) };
            self.ask(count).await?;
        }
        let Some(inbox) = &mut self.inbox else { return Ok(()) };
        let first = tokio::select! {
            biased;
            message = inbox.messages.next() => message,
            () = tokio::time::sleep_until(self.over.into()) => {
                self.asked = 0;
                return Ok(());
            }
            _ = self.changes.changed() => {
                // The server, or the next one, knows nothing of the request.
                (self.asked, self.recover) = (0, true);
                return shared.server.check();
            }
            () = ended.cancelled() => return Ok(()),
        };
        let Some(first) = first else {
            (self.inbox, self.asked) = (None, 0);
            return Err(shared.server.away("the inbox has ended"));
        };
        let mut came = vec![first];
        while came.len() < self.asked
            && let Some(Some(more)) = inbox.messages.next().now_or_never()
        {
            came.push(more);
        }
        self.arrived(came).await
    }

    /// How many of those that we hold the server knows nothing of any more, as it was killed before it had written that down: it sends them
    /// again, and then they can be settled.
    async fn forgotten(&mut self) -> Result<usize, QueueError> {
        let held: Vec<u128> = self.subscription.inbox.hold().iter().map(|(position, _)| position.0).collect();
        if held.is_empty() || self.shared.server.check().is_err() {
            self.recover = !held.is_empty();
            return Ok(0);
        }
        let sent = self.shared.consumer_info(&self.subscription).await?.delivered.stream_sequence;
        self.recover = false;
        Ok(held.into_iter().filter(|sequence| *sequence > u128::from(sent)).count())
    }

    /// Sorts what came: messages of the stream, and what the server says of requests.
    async fn arrived(&mut self, came: Vec<async_nats::Message>) -> Result<(), QueueError> {
        let (said, messages): (Vec<_>, Vec<_>) = came.into_iter().partition(|message| message.status.is_some());
        self.asked = self.asked.saturating_sub(messages.len());
        let (shared, subscription) = (&self.shared, &self.subscription);
        let taken = stream::iter(messages).map(|message| take(shared, subscription, message)).buffered(NOTES_MAX);
        let taken: Vec<_> = taken.filter_map(std::future::ready).collect().await;
        match &mut self.takeover {
            Some(takeover) => takeover.came.extend(taken),
            None => subscription.inbox.put(taken),
        }
        said.iter().try_for_each(|said| self.told(said))
    }

    /// The server ends a request, or refuses it.
    fn told(&mut self, said: &async_nats::Message) -> Result<(), QueueError> {
        let current = self.inbox.as_ref().is_some_and(|inbox| *said.subject == format!("{}{}", inbox.prefix, self.request));
        let Some(status) = said.status.filter(|_| current) else { return Ok(()) };
        let text = said.description.as_deref().unwrap_or_default();
        if status == StatusCode::IDLE_HEARTBEAT {
            return Ok(());
        }
        self.asked = 0;
        let lower = text.to_ascii_lowercase();
        if status == StatusCode::NOT_FOUND
            || status == StatusCode::TIMEOUT
            || lower.contains("maxbytes")
            || lower.contains("completed")
        {
            return Ok(());
        }
        // The consumer, or its stream, may be gone: it is looked for again.
        self.shared.forget(&self.subscription);
        Err(match lower.contains("deleted") {
            true => not_subscribed(&self.shared.name, &self.subscription.name),
            false => self.shared.server.away(format!("reading consumer `{}`: {status} {text}", self.subscription.consumer)),
        })
    }

    /// How many may be asked for; none: not now, it is another one's turn.
    async fn may_read(&mut self, missing: usize) -> Result<Option<usize>, QueueError> {
        let made = self.shared.consumer(&self.subscription).await?;
        let most = missing.min(made.batch_max);
        let subscription = Arc::clone(&self.subscription);
        let Some(lead) = subscription.lead.get() else { return Ok(Some(most)) };
        let store = self.shared.bucket.store().await?;
        if !lead.is_ours(self.shared.young() / 2) {
            if lead.is_ours(self.shared.young()) {
                // The heartbeat writes it anew any moment; what is asked for now could come too late for it.
                tokio::time::sleep(PAUSE).await;
                return Ok(None);
            }
            self.takeover = None;
            match lead.take(store, self.shared.lease).await? {
                Taken::No => {
                    let wait = lead.changed(store, self.shared.lease / super::beat::LOOKS);
                    let _ = subscription.inbox.ended.run_until_cancelled(wait).await;
                    return Ok(None);
                }
                Taken::New { clean } => {
                    let at = Instant::now() + if clean { Duration::ZERO } else { self.shared.lease };
                    self.takeover = Some(Takeover { at, pending: None, came: Vec::new() });
                }
            }
        }
        match &self.takeover {
            Some(_) => self.take_over(made.batch_max).await,
            None => Ok(Some(most)),
        }
    }

    /// Everything that the last reader left unsettled comes before what is new, in the order of the stream.
    async fn take_over(&mut self, batch_max: usize) -> Result<Option<usize>, QueueError> {
        let info = self.shared.consumer_info(&self.subscription).await?;
        let Some(takeover) = &mut self.takeover else { return Ok(None) };
        let pending = *takeover.pending.get_or_insert(info.num_ack_pending);
        let left = info.num_ack_pending.saturating_sub(takeover.came.len()).min(pending.saturating_sub(takeover.came.len()));
        if left == 0 {
            let mut came = std::mem::take(&mut takeover.came);
            came.sort_by_key(|(delivery, _)| delivery.position);
            self.takeover = None;
            self.subscription.inbox.put(came);
            return Ok(None);
        }
        let wait = takeover.at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            // What it had comes again when its leases are over; until then only what is new would come.
            let ended = &self.subscription.inbox.ended;
            let _ = ended.run_until_cancelled(tokio::time::sleep(wait)).await;
            return Ok(None);
        }
        Ok(Some(left.min(batch_max)))
    }

    /// Asks for so many.
    async fn ask(&mut self, count: usize) -> Result<(), QueueError> {
        let server = &self.shared.server;
        let prefix = match &self.inbox {
            Some(inbox) => &inbox.prefix,
            None => {
                let prefix = format!("{}.", server.client.new_inbox());
                let messages = server.client.subscribe(format!("{prefix}*")).await.map_err(|error| server.away(error))?;
                &self.inbox.insert(Inbox { prefix, messages }).prefix
            }
        };
        self.request += 1;
        // One that leads must not be sent anything when it may not lead any more.
        let expires = REQUEST_MAX.min(self.shared.lease / 3);
        let bytes = REQUEST_BYTES.max(2 * server.client.max_payload());
        let body = format!(r#"{{"batch":{count},"expires":{},"max_bytes":{bytes}}}"#, expires.as_nanos());
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.shared.stream_name, self.subscription.consumer);
        let sent = server.client.publish_with_reply(subject, format!("{prefix}{}", self.request), body.into()).await;
        sent.map_err(|error| server.away(error))?;
        (self.asked, self.over) = (count, Instant::now() + expires + REQUEST_MARGIN);
        Ok(())
    }

    /// Takes in what the server has sent, and asks for no more.
    async fn drain(&mut self) {
        if let Some(mut inbox) = self.inbox.take()
            && inbox.messages.drain().await.is_ok()
        {
            while let Some(message) = inbox.messages.next().await {
                // What the server says of requests is of no use any more.
                let _ = self.arrived(vec![message]).await;
            }
        }
        if let Some(takeover) = self.takeover.take() {
            self.subscription.inbox.put(takeover.came);
        }
    }
}

/// A message as a delivery; none: it has no number, so it is no message of a stream.
async fn take(shared: &Shared, subscription: &Subscription, message: async_nats::Message) -> Option<(Delivery, Token)> {
    let message = Message { message, context: shared.server.jetstream.clone() };
    let info = message.info().ok()?;
    let (sequence, delivered) = (info.stream_sequence, u32::try_from(info.delivered).unwrap_or(u32::MAX));
    let first_seen = published(info.published.unix_timestamp_nanos());
    let id = format!("{}/{sequence}", info.stream);
    let position = Position(u128::from(sequence));
    let noted = match delivered {
        1 => None,
        _ => shared.bucket.note(&subscription.consumer, position).await,
    };
    let tries = super::tries::behind(delivered, noted);
    let reply = message.message.reply.clone()?;
    let event = message::event(&shared.wrapping, id, message.message.headers.as_ref(), &message.message.payload, first_seen);
    let delivery = Delivery { event: Arc::new(event), position, tries, first_seen };
    Some((delivery, Token { reply, delivered, noted }))
}

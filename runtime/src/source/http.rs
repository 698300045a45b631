//! `POST /events/{queue}`: reads a request under bounds, turns it into events and answers once the queue holds them.
//!
//! Who may ask at all is decided in `admin/guard.rs`. What a request means is decided in [`super::read`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::map::EventMap;
use super::{Intake, Message, Mode, delay, mode, read};
use crate::admin::answer::{self, Failure};
use crate::clock;
use crate::event::Event;
use crate::queue::{Publish, Queue, QueueError};

/// Least bound on a body in structured or batched mode, in bytes. Twice `max-event` when that is more: JSON text is longer than what
/// it says, in base64 by a third.
pub const STRUCTURED_BODY_MAX: u64 = 16 << 20;

/// Bytes of all bodies together that are being read or waiting for their queue. Beyond it requests are answered 503, so that many
/// large ones at once can't use up the memory of the process.
pub const BODIES_MAX: usize = 256 << 20;

/// How long a client may take to send a body: half a megabyte a second at the largest body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a body over its bound that are read and thrown away: a client that is still sending sees the answer only once it was
/// read; a connection that is closed on it looks like a fault of the network.
const DISCARD_MAX: u64 = 32 << 20;

/// How long that may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a queue may take to answer. A commit takes milliseconds; a broker that needs longer is as good as away.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// What `Retry-After` says, in seconds: time enough for handlers to make room, or for a broker to be back.
pub const RETRY_AFTER: u32 = 5;

/// The permits of [`BODIES_MAX`] are kilobytes: a semaphore counts to 2^29 only where `usize` has 32 bits.
const PERMIT: usize = 1024;

/// What 202 answers, and what `weir publish --json` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// How many events the queue holds now.
    pub accepted: u64,
    /// Their ids, in order.
    pub ids: Vec<String>,
}

/// One queue as the route sees it.
pub struct Entrance {
    /// Where events go.
    pub queue: Arc<dyn Queue>,
    /// The event type of wrapped events.
    pub kind: String,
    /// Where a producer's own envelope has what.
    pub map: Option<Arc<EventMap>>,
    /// Whether the route exists for it: `ingress`.
    pub open: bool,
}

/// All that the route needs.
pub struct Ingress {
    queues: BTreeMap<String, Entrance>,
    max_event: u64,
    // Held by requests from the first byte of their body to their answer.
    bodies: Arc<Semaphore>,
    // Set once by the drain, read by every request.
    closed: AtomicBool,
    /// [`BODY_TIMEOUT`], or less in tests.
    pub(crate) body_timeout: Duration,
}

impl Ingress {
    /// The route over these queues, by name.
    #[must_use]
    pub fn new(queues: BTreeMap<String, Entrance>, max_event: u64) -> Self {
        let bodies = Arc::new(Semaphore::new(BODIES_MAX / PERMIT));
        Self { queues, max_event, bodies, closed: AtomicBool::new(false), body_timeout: BODY_TIMEOUT }
    }

    /// Takes no more events: the server stops, and what only it would hold (`memory:`) would be lost.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn entrance(&self, name: &str) -> Result<&Entrance, Failure> {
        if let Some(entrance) = self.queues.get(name).filter(|entrance| entrance.open) {
            return Ok(entrance);
        }
        let why = if self.queues.contains_key(name) { "takes no events over HTTP (`ingress = false`)" } else { "is not defined" };
        let open = self.queues.iter().filter(|(_, entrance)| entrance.open).map(|(name, _)| format!("`{name}`"));
        let known = open.collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none takes events".to_owned() } else { format!("known: {known}") };
        let name: String = name.chars().take(80).collect();
        Err(Failure::new(StatusCode::NOT_FOUND, format!("queue `{name}` {why} ({known})")))
    }

    async fn take(&self, name: &str, query: Option<&str>, headers: &HeaderMap, body: Body) -> Result<Accepted, Failure> {
        let entrance = self.entrance(name)?;
        if self.closed.load(Ordering::Relaxed) {
            let text = "server is stopping (send it again later)".to_owned();
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(RETRY_AFTER).closing());
        }
        let due = delay_of(query).map_err(bad)?.map(|delay| clock::now().after(delay));
        if due.is_some() && !entrance.queue.features().delay {
            return Err(bad(format!("queue `{name}` can't hold events back (leave out `delay`)")));
        }
        let lines: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let head = Message { headers: &lines, body: &Bytes::new() };
        let bound = body_bound(mode(&head).map_err(|problem| bad(problem.to_string()))?, self.max_event);
        let (body, _held) = self.body(headers, body, bound).await?;
        let (kind, map) = (entrance.kind.as_str(), entrance.map.as_deref());
        let intake = Intake { queue: name, kind, map, max_event: self.max_event, now: clock::now() };
        let events = read(&Message { headers: &lines, body: &body }, &intake).map_err(|refusal| {
            let status = if refusal.problem.is_size() { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            Failure { index: refusal.index, ..Failure::new(status, refusal.to_string()) }
        })?;
        let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
        publish(&*entrance.queue, events, due).await?;
        Ok(Accepted { accepted: ids.len() as u64, ids })
    }

    /// Reads a body within its bound, its time and the bound of all bodies together; the permits are held as long as the bytes are.
    async fn body(&self, headers: &HeaderMap, body: Body, bound: u64) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Failure> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let mut frames = body.into_data_stream();
        let read = if announced.is_some_and(|length| length > bound) {
            Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, format!("body is larger than {bound} bytes")).closing())
        } else {
            tokio::time::timeout(self.body_timeout, self.collect(&mut frames, bound)).await.unwrap_or_else(|_| {
                let error = format!("body took longer than {} s to arrive", self.body_timeout.as_secs());
                Err(Failure::new(StatusCode::REQUEST_TIMEOUT, error).closing())
            })
        };
        // A client that waits for `100 Continue` has not begun to send, and reading would tell it to.
        let too_large = matches!(&read, Err(failure) if failure.status == StatusCode::PAYLOAD_TOO_LARGE);
        if too_large && !headers.contains_key(header::EXPECT) {
            // Whether all of it could be read makes no difference to the answer.
            let _ = tokio::time::timeout(DISCARD_TIMEOUT, discard(&mut frames)).await;
        }
        read
    }

    async fn collect(&self, frames: &mut BodyDataStream, bound: u64) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Failure> {
        let (mut whole, mut held, mut room) = (BytesMut::new(), Vec::new(), 0);
        while let Some(frame) = frames.next().await {
            let frame = frame.map_err(|error| bad(format!("body ended early: {error}")).closing())?;
            let length = whole.len() + frame.len();
            if length as u64 > bound {
                return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, format!("body is larger than {bound} bytes")).closing());
            }
            if length > room {
                let permits = (length - room).div_ceil(PERMIT);
                let count = u32::try_from(permits).unwrap_or(u32::MAX);
                held.push(self.bodies.clone().try_acquire_many_owned(count).map_err(|_| overloaded())?);
                room += permits * PERMIT;
            }
            whole.extend_from_slice(&frame);
        }
        Ok((whole.freeze(), held))
    }
}

/// Reads on, to no end but the client's, for at most [`DISCARD_MAX`].
async fn discard(frames: &mut BodyDataStream) {
    let mut discarded = 0;
    while let Some(Ok(frame)) = frames.next().await {
        discarded += frame.len() as u64;
        if discarded > DISCARD_MAX {
            return;
        }
    }
}

/// The handler of the route.
pub async fn post(
    State(ingress): State<Arc<Ingress>>,
    queue: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let taken = match queue {
        Ok(Path(name)) => ingress.take(&name, query.as_deref(), &headers, body).await,
        Err(_) => Err(bad("queue's name in the path is not UTF-8".to_owned())),
    };
    match taken {
        Ok(accepted) => answer::json(StatusCode::ACCEPTED, &accepted),
        Err(failure) => failure.into_response(),
    }
}

/// The bound on a body: exactly `max-event` where the body is the data, more where it also holds attributes or a batch.
fn body_bound(mode: Mode, max_event: u64) -> u64 {
    match mode {
        Mode::Binary | Mode::Raw => max_event,
        Mode::Structured | Mode::Batched => STRUCTURED_BODY_MAX.max(max_event.saturating_mul(2)),
    }
}

/// The delay that a query asks for; anything else in a query is refused, so that a misspelt parameter is not ignored.
fn delay_of(query: Option<&str>) -> Result<Option<Duration>, String> {
    let mut found = None;
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "delay" {
            let name: String = name.chars().take(80).collect();
            return Err(format!("query parameter `{name}` is not known (known: `delay`)"));
        }
        let delay = delay::delay(&value).map_err(|why| format!("query parameter `delay`: {why}"))?;
        if found.replace(delay).is_some() {
            return Err("query parameter `delay` is given more than once".to_owned());
        }
    }
    Ok(found)
}

async fn publish(queue: &dyn Queue, events: Vec<Event>, due: Option<clock::Timestamp>) -> Result<(), Failure> {
    if events.is_empty() {
        return Ok(());
    }
    let batch = events.into_iter().map(|event| Publish { event: Arc::new(event), due }).collect();
    match tokio::time::timeout(PUBLISH_TIMEOUT, queue.publish(batch)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failure_of(&error)),
        Err(_) => {
            let seconds = PUBLISH_TIMEOUT.as_secs();
            let text = format!(
                "queue did not answer within {seconds} s (it may still take the events: send them again with the same ids)"
            );
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(RETRY_AFTER))
        }
    }
}

/// How a queue that did not take an event is answered.
pub(crate) fn failure_of(error: &QueueError) -> Failure {
    match error {
        QueueError::TooLarge { .. } => Failure::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        QueueError::Full { .. } | QueueError::NoRoom(_) => {
            Failure::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()).retry_after(RETRY_AFTER)
        }
        _ => Failure::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(RETRY_AFTER),
    }
}

fn bad(text: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, text)
}

fn overloaded() -> Failure {
    let text = "too many events are being taken in at once (send it again later)".to_owned();
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(RETRY_AFTER).closing()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_a_delay_or_nothing() {
        let minutes = |minutes: u64| Some(Duration::from_secs(minutes * 60));
        for (query, expected) in
            [(None, None), (Some(""), None), (Some("delay=10m"), minutes(10)), (Some("delay=%31m"), minutes(1))]
        {
            assert_eq!(delay_of(query), Ok(expected), "{query:?}");
        }
        for (query, expected) in [
            ("dealy=10m", "query parameter `dealy` is not known (known: `delay`)"),
            ("delay=10", "query parameter `delay`: `10` is no duration"),
            ("delay", "query parameter `delay`: `` is no duration"),
            ("delay=400d", "at most `366d`"),
            ("delay=1s&delay=2s", "more than once"),
        ] {
            let error = delay_of(Some(query)).unwrap_err();
            assert!(error.contains(expected), "{query}: {error}");
        }
    }

    #[test]
    fn errors_of_queues_have_their_status() {
        let full = QueueError::Full { held: 10, bound: 10, blocker: Some("weir-old".to_owned()) };
        for (error, status, retry) in [
            (full, 429, true),
            (QueueError::TooLarge { size: 2, bound: 1 }, 413, false),
            (QueueError::Unavailable("disk is full".to_owned()), 503, true),
            (QueueError::Closed, 503, true),
            (QueueError::Owned("folder is in use".to_owned()), 503, true),
        ] {
            let failure = failure_of(&error);
            assert_eq!((failure.status.as_u16(), failure.retry_after.is_some()), (status, retry), "{error}");
            assert_eq!(failure.error, error.to_string());
        }
    }
}

//! Bodies under bounds: bytes and time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Bounds, Failure, Outside};

/// The body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, Failure>;

/// Most bytes of one request's body: as much as the server itself takes in structured mode. It is passed on in pieces, never held whole.
pub const REQUEST_MAX: u64 = 16 << 20;

/// That whoever writes a request's body is gone: set before its end of the body is dropped.
#[derive(Debug, Clone, Default)]
pub struct Gone(Arc<AtomicBool>);

impl Gone {
    /// From now on a body that stops has broken off.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A body that breaks off, instead of ending, when its writer is gone: half a body must not look like a whole one to the other side.
pub struct Written {
    inner: Body,
    gone: Gone,
}

impl Written {
    /// A body, and what tells that its writer is gone.
    #[must_use]
    pub fn new(inner: Body, gone: Gone) -> Self {
        Self { inner, gone }
    }
}

impl HttpBody for Written {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if frame.is_none() && self.gone.0.load(Ordering::Acquire) {
            let text = "the handler ended before the request's body did".to_owned();
            return Poll::Ready(Some(Err(Failure::Invalid(text))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A request's body that ends with an error beyond [`REQUEST_MAX`].
pub(super) struct Sent {
    inner: Body,
    left: u64,
    awaited: Arc<AtomicBool>,
}

impl Sent {
    pub(super) fn new(inner: Body) -> Self {
        Self { inner, left: REQUEST_MAX, awaited: Arc::default() }
    }

    /// Tells, also while it is sent, whether its next piece is awaited: then whoever writes it is slow, not the other side.
    pub(super) fn awaited(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.awaited)
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.awaited.store(polled.is_pending(), Ordering::Relaxed);
        let frame = ready!(polled);
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()).map_or(0, size);
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Some(Err(Failure::RequestTooLarge))),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body: counted, in time, and holding what keeps its connection alive.
pub(super) struct Received<B, G> {
    inner: B,
    bound: u64,
    taken: u64,
    until: Instant,
    between: Option<Duration>,
    /// Since something is waited for: while nobody reads, the other side is not late.
    waiting: bool,
    clock: Pin<Box<Sleep>>,
    // Ends the connection when the body is dropped.
    _connection: G,
}

impl<B, G> Received<B, G> {
    pub(super) fn new(inner: B, bounds: &Bounds, connection: G) -> Self {
        let (bound, until, between) = (bounds.response, bounds.until, bounds.between_bytes);
        let clock = Box::pin(sleep_until(until));
        Self { inner, bound, taken: 0, until, between, waiting: false, clock, _connection: connection }
    }
}

/// The time by which something has to come.
fn next(until: Instant, between: Option<Duration>) -> Instant {
    between.and_then(|between| Instant::now().checked_add(between)).map_or(until, |next| next.min(until))
}

impl<B, G> HttpBody for Received<B, G>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error,
    G: Unpin,
{
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_pending() && !self.waiting {
            self.waiting = true;
            let next = next(self.until, self.between);
            self.clock.as_mut().reset(next);
        }
        // Of a body that always has a byte at hand only the whole time is bounded.
        let late = polled.is_pending() || Instant::now() >= self.until;
        if late && self.clock.as_mut().poll(cx).is_ready() {
            let text = "the answer's body did not end in time".to_owned();
            return Poll::Ready(Some(Err(Failure::Outside(Outside::TimeOut, text))));
        }
        let frame = ready!(polled);
        self.waiting = false;
        match frame {
            None => Poll::Ready(None),
            Some(Err(error)) => {
                let text = format!("the answer's body broke off: {error}");
                Poll::Ready(Some(Err(Failure::Outside(Outside::Broken, text))))
            }
            Some(Ok(frame)) => {
                self.taken = self.taken.saturating_add(size(&frame));
                if self.taken > self.bound {
                    return Poll::Ready(Some(Err(Failure::ResponseTooLarge(self.bound))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

fn size(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    async fn received(bytes: usize, bound: u64) -> Result<usize, Failure> {
        let bounds = Bounds {
            until: Instant::now() + Duration::from_secs(60),
            connect: None,
            first_byte: None,
            between_bytes: None,
            response: bound,
        };
        let body = Received::new(Full::new(Bytes::from(vec![b'x'; bytes])), &bounds, ());
        body.collect().await.map(|collected| collected.to_bytes().len())
    }

    #[tokio::test]
    async fn answers_are_counted() {
        assert_eq!(received(10, 10).await, Ok(10));
        assert_eq!(received(11, 10).await, Err(Failure::ResponseTooLarge(10)));
    }

    #[tokio::test]
    async fn requests_are_counted() {
        let sent = |bytes: u64| {
            let full = Full::new(Bytes::from(vec![b'x'; usize::try_from(bytes).unwrap()]));
            Sent::new(full.map_err(|never| match never {}).boxed_unsync()).collect()
        };
        assert!(sent(REQUEST_MAX).await.is_ok());
        assert_eq!(sent(REQUEST_MAX + 1).await.err(), Some(Failure::RequestTooLarge));
    }
}

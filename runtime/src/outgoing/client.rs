//! The client of one handler: its grants, and the way of a request to the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue};
use http::{Request, Response, Uri, request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::body::{Body, Received, Sent};
use super::connect::{Roots, Stream, connect};
use super::target::{HttpGrant, Target};
use super::{Answers, Asked, Bounds, Failure, Outside, Way};

/// Names looked up at once for one handler: each holds a thread for as long as the system's resolver likes.
const LOOKUPS_MAX: usize = 8;

/// Bytes of an answer's head, and of what is read ahead of its body.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Headers of an answer.
const HEADERS_MAX: usize = 128;

/// Headers that are between us and the next hop; that a guest can't set (RFC 9110 §7.6.1). Host is ours.
const HOP: [&str; 10] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Makes the requests of one handler.
#[derive(Debug)]
pub struct Client {
    handler: String,
    grants: Vec<HttpGrant>,
    way: Way,
    runtime: Handle,
    lookups: Arc<Semaphore>,
}

impl Client {
    pub(super) fn new(handler: &str, grants: &[HttpGrant], (way, runtime): (Way, Handle)) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self { handler: handler.to_owned(), grants: grants.to_vec(), way, runtime, lookups }
    }

    /// Whether a guest may not set this header.
    #[must_use]
    pub fn is_forbidden(name: &HeaderName) -> bool {
        HOP.contains(&name.as_str()) || name.as_str() == "http2-settings"
    }

    /// Where a request goes, if a grant covers it.
    ///
    /// # Errors
    /// [`Failure::Denied`], with the line that would grant it.
    pub fn admit(&self, request: &request::Parts) -> Result<Target, Failure> {
        if let Way::Refused(why) = self.way {
            return Err(Failure::Denied(why.to_owned()));
        }
        let uri = &request.uri;
        let (scheme, authority) =
            (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", http::uri::Authority::as_str));
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let target = Target::parse(scheme, authority, path).map_err(Failure::Denied)?;
        let method = request.method.as_str();
        if self.grants.iter().any(|grant| grant.covers(method, &target)) {
            return Ok(target);
        }
        let line = format!("http = [{{ url = \"{}/*\", methods = [\"{method}\"] }}]", target.origin);
        let where_to = format!("[handler.{}.grants]", self.handler);
        Err(Failure::Denied(format!("no grant `http` covers it (in weir.toml under {where_to}, such as {line})")))
    }

    /// Sends a request that was admitted. It is given up when the future is dropped, and the answer's body when that is.
    ///
    /// # Errors
    /// As [`Failure`] says; only `Outside` is an outside failure.
    pub async fn send(
        self: Arc<Self>,
        target: Target,
        request: Request<Body>,
        bounds: Bounds,
    ) -> Result<Response<Body>, Failure> {
        let runtime = self.runtime.clone();
        // Connections are driven beside the guests' own threads, which may all be computing.
        let sending = AbortOnDropHandle::new(runtime.spawn(async move { self.carry(&target, request, bounds).await }));
        sending
            .await
            .map_err(|error| Failure::Outside(Outside::Broken, format!("the request ended without a result: {error}")))?
    }

    async fn carry(&self, target: &Target, request: Request<Body>, bounds: Bounds) -> Result<Response<Body>, Failure> {
        let request = written(target, request)?;
        match &self.way {
            Way::Refused(why) => Err(Failure::Denied((*why).to_owned())),
            Way::Network(roots) => self.over_network(target, request, (bounds, roots)).await,
            Way::Answered(answers) => answered(target, request, (bounds, answers.as_ref())).await,
        }
    }

    async fn over_network(
        &self,
        target: &Target,
        request: Request<Sent>,
        (bounds, roots): (Bounds, &Arc<Roots>),
    ) -> Result<Response<Body>, Failure> {
        let until = |wait: Option<std::time::Duration>| {
            wait.and_then(|wait| Instant::now().checked_add(wait)).map_or(bounds.until, |end| end.min(bounds.until))
        };
        let late = |what: &str| Failure::Outside(Outside::TimeOut, format!("`{}` {what} in time", target.origin));
        let connecting = connect(&target.origin, roots, &self.lookups);
        let stream = timeout_at(until(bounds.connect), connecting).await.map_err(|_| late("was not connected"))??;
        let awaited = request.body().awaited();
        let asking = ask(stream, request, bounds);
        let answer = timeout_at(until(bounds.first_byte), asking).await.map_err(|_| match awaited.load(Ordering::Relaxed) {
            true => unfinished(),
            false => late("has not answered"),
        })?;
        answer.map_err(|error| failed(&error, target))
    }
}

/// The guest's own doing: nobody outside was late.
fn unfinished() -> Failure {
    Failure::Invalid("the request's body was not finished in time".to_owned())
}

/// The request as it leaves: its path in one form, and our own Host.
fn written(target: &Target, request: Request<Body>) -> Result<Request<Sent>, Failure> {
    let (mut head, body) = request.into_parts();
    let invalid = |error: &dyn std::fmt::Display| Failure::Invalid(format!("the request can't be written: {error}"));
    head.uri = Uri::try_from(target.path_and_query()).map_err(|error| invalid(&error))?;
    head.version = http::Version::HTTP_11;
    for name in HOP {
        head.headers.remove(name);
    }
    let host = HeaderValue::from_str(&target.origin.authority()).map_err(|error| invalid(&error))?;
    head.headers.insert(HOST, host);
    Ok(Request::from_parts(head, Sent::new(body)))
}

async fn ask(stream: std::pin::Pin<Box<dyn Stream>>, request: Request<Sent>, bounds: Bounds) -> hyper::Result<Response<Body>> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // What goes wrong is told to whoever waits for the answer or its body.
        let _ = connection.await;
    }));
    let answer = sender.send_request(request).await?;
    Ok(answer.map(|body| Received::new(body, &bounds, connection).boxed_unsync()))
}

/// What of an error was the guest's doing, and what was outside.
fn failed(error: &hyper::Error, target: &Target) -> Failure {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.clone();
        }
        source = cause.source();
    }
    if error.is_user() {
        return Failure::Invalid(format!("the request was not finished: {error}"));
    }
    Failure::Outside(Outside::Broken, format!("no answer from `{}`: {error}", target.origin))
}

/// Hands the whole request to somebody in this process.
async fn answered(
    target: &Target,
    request: Request<Sent>,
    (bounds, answers): (Bounds, &dyn Answers),
) -> Result<Response<Body>, Failure> {
    let (head, body) = request.into_parts();
    let body = timeout_at(bounds.until, body.collect()).await.map_err(|_| unfinished())??.to_bytes();
    let headers = head.headers.iter();
    let asked = Asked {
        method: head.method.to_string(),
        url: format!("{}{}", target.origin, target.path_and_query()),
        headers: headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body,
    };
    let answer = answers.answer(&asked);
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let body = Full::new(Bytes::clone(&answer.body));
    let response = response.body(Received::new(body, &bounds, ()).boxed_unsync());
    response.map_err(|error| Failure::Outside(Outside::Broken, format!("the answer is none: {error}")))
}

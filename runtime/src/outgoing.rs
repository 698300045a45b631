//! HTTP on behalf of handlers: what may leave is decided here, and by which way it does (sandbox.md §9).
//!
//! One request is one connection: its host is looked up, every address is judged, and one that was judged is connected to. Redirects are
//! not followed, proxies are not asked. It counts nothing but bytes; what an answer means for an event is the sandbox's to say.
//!
//! Considered and left out: connections kept for the next request. They would have to be tied to the address that was judged, bounded per
//! handler, and told from those that the other side has just given up; TLS sessions are resumed instead, which is most of what they save.

pub mod address;
pub mod body;
mod client;
mod connect;
mod path;
pub mod target;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::Instant;

pub use self::client::Client;
use self::connect::Roots;
pub use self::target::{HttpGrant, METHODS, Origin, Pattern, Target};

/// Why there is no answer, or no more of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No grant covers it, or nothing leaves here at all.
    #[error("denied: {0}")]
    Denied(String),
    /// The host leads to an address that nobody granted.
    #[error("denied: {0}")]
    Prohibited(String),
    /// The request can't be sent as it is.
    #[error("{0}")]
    Invalid(String),
    /// The request's body is larger than [`body::REQUEST_MAX`].
    #[error("the request's body is larger than {} bytes", body::REQUEST_MAX)]
    RequestTooLarge,
    /// The answer's body is larger than its bound.
    #[error("the answer's body is larger than {0} bytes")]
    ResponseTooLarge(u64),
    /// The other side, or the way to it.
    #[error("{1}")]
    Outside(Outside, String),
}

/// Where it failed outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// The name could not be looked up.
    Lookup,
    /// Nobody answered at any address.
    Connect,
    /// No TLS, or a certificate that nobody here trusts.
    Tls,
    /// Not in time.
    TimeOut,
    /// The connection ended, or what came over it was no HTTP.
    Broken,
}

/// What one request may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// All of it, the answer's body included, ends here.
    pub until: Instant,
    /// Until there is a connection.
    pub connect: Option<Duration>,
    /// From then until the answer begins.
    pub first_byte: Option<Duration>,
    /// Between two pieces of its body.
    pub between_bytes: Option<Duration>,
    /// Bytes of its body.
    pub response: u64,
}

/// Answers requests instead of the network: for tests of handlers.
pub trait Answers: Send + Sync + fmt::Debug {
    /// Called once for each request that a grant covers, perhaps for several at once; must not block.
    fn answer(&self, request: &Asked) -> Answered;
}

/// A request as it would have left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// One of [`METHODS`].
    pub method: String,
    /// Scheme, host, port, path and query, in their one form.
    pub url: String,
    /// Names in lower case; values that are no text replaced.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

/// What a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// From 200 to 599; another one is a failure of the other side.
    pub status: u16,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

/// By which way requests leave.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// Over the network.
    Network(Arc<Roots>),
    /// Not at all, and why.
    Refused(&'static str),
    /// To somebody in this process.
    Answered(Arc<dyn Answers>),
}

/// Outgoing HTTP of one process: what the clients of all its handlers share.
#[derive(Debug, Clone)]
pub struct Outgoing {
    runtime: Handle,
    way: Way,
}

impl Outgoing {
    /// Requests over the network; connections run on `runtime`, whatever becomes of the guest's own. TLS trusts the system's roots, or those
    /// of `SSL_CERT_FILE`, read with the first request.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, way: Way::Network(Arc::default()) }
    }

    /// Nothing leaves, and a handler's log says why.
    #[must_use]
    pub fn refusing(runtime: Handle, why: &'static str) -> Self {
        Self { runtime, way: Way::Refused(why) }
    }

    /// Requests that a grant covers are answered here.
    #[must_use]
    pub fn answered(runtime: Handle, answers: Arc<dyn Answers>) -> Self {
        Self { runtime, way: Way::Answered(answers) }
    }

    /// Trusts further root certificates (PEM), beside the system's.
    #[must_use]
    pub fn with_root_certificates(mut self, pem: &[u8]) -> Self {
        if let Way::Network(roots) = &mut self.way {
            *roots = Arc::new(Roots::with(pem));
        }
        self
    }

    /// The client of one handler; none without a grant.
    #[must_use]
    pub fn client(&self, handler: &str, grants: &[HttpGrant]) -> Option<Arc<Client>> {
        (!grants.is_empty()).then(|| Arc::new(Client::new(handler, grants, (self.way.clone(), self.runtime.clone()))))
    }
}

//! weir.toml, validated: every key resolved, every value in its own type. `config/` reads the text and says what is wrong with it.
//!
//! Everything that can be known before a socket is opened is checked here or in `cli/check.rs`.
//!
//! Considered and left out: serde structs with `deny_unknown_fields`. They stop at the first error and lose where a value stands, so
//! that a mistake in the limits of one handler could not be underlined, nor told together with the next one. Instead the parser's
//! spanned tree is read key by key (`section.rs`); a key is known because a reader asks for it.

mod batch;
mod buckets;
mod cases;
mod diagnostic;
mod filter;
mod grants;
mod handlers;
mod http_grant;
mod interpolate;
mod limits;
mod load;
mod overrides;
mod queues;
mod reader;
mod redact;
mod relay;
mod section;
mod server;
mod tree;
mod values;
mod warnings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::filter::Filter;
use crate::outgoing::HttpGrant;
use crate::queue::Start;
use crate::source::map::EventMap;
use crate::store::StoreUrl;

pub use batch::{BatchPolicy, Export};
pub use cases::{Case, CaseFile, Check, Clock, Expect, Outcomes, Step, Subject, Test, Things, load_cases, nearest_config};
pub use diagnostic::{Problem, Problems};
pub use limits::{LimitSources, LimitValue, Origin, ShownLimit};
pub use load::{Surroundings, load, load_in, read_text};
pub use redact::Secret;
pub(crate) use values::{duration, is_name};
pub use values::{fmt_duration, fmt_size};

/// Every key with its default and what it does, as a weir.toml; keys without a default and those of later versions are commented out.
pub const REFERENCE: &str = include_str!("../default.toml");

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from; `--set` overrides applied.
    pub file: PathBuf,
    /// `[server]`.
    pub server: Server,
    /// `[queue.*]`, by name.
    pub queues: BTreeMap<String, QueueConfig>,
    /// `[handler.*]`, by name.
    pub handlers: BTreeMap<String, HandlerConfig>,
    /// `[ceilings]`.
    pub ceilings: Ceilings,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    /// Address of the HTTP side; port 0: any free one.
    pub listen: SocketAddr,
    /// What this process keeps; absolute.
    pub data: PathBuf,
    /// Where what processes share, and what outlives them, is kept.
    pub store: StoreUrl,
    /// This process among others; none: host name and six hex digits made once and kept in `data`.
    pub name: Option<String>,
    /// Prefix of subscriptions.
    pub group: String,
    /// How long running events may finish at shutdown.
    pub grace: Duration,
    /// Bearer token for everything but health; none: only with a loopback `listen`.
    pub token: Option<Secret>,
    /// A second token that allows POST /events/* only.
    pub publish_token: Option<Secret>,
    /// Names that a request's Host may have, beside addresses and localhost.
    pub hosts: Vec<String>,
    /// Largest event taken in or emitted, in bytes.
    pub max_event: u64,
    /// Most instances at once, over all handlers.
    pub instances: u32,
    /// Most components mapped at once.
    pub loaded: u32,
    /// How long a mail is known to have been sent.
    pub mail_kept: Duration,
}

/// The event type given to messages that are not CloudEvents, unless their queue names one.
pub const KIND: &str = "weir.raw";

/// `[queue.*]`.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Its URL, as written but with `${…}` replaced and paths absolute.
    pub url: crate::queue::url::QueueUrl,
    /// The event type given to messages that are not CloudEvents.
    pub kind: String,
    /// The attribute whose value is written as the broker's key; none: `partitionkey`.
    pub key: Option<String>,
    /// Where a producer's own envelope has what; none: what is no CloudEvent is wrapped. Shared with whoever reads messages.
    pub map: Option<Arc<EventMap>>,
    /// Where a new subscription begins.
    pub start: Start,
    /// Whether POST /events/{queue} takes events.
    pub ingress: bool,
    /// Bound on what waits, in bytes.
    pub max_size: u64,
    /// How much is kept of its dead letters.
    pub dead_bounds: crate::dead::DeadBounds,
    /// The queue that its dead letters go to instead of being kept.
    pub dead: Option<String>,
    /// The folder of the embedded queue that takes publishes while the broker is away.
    pub fallback: Option<PathBuf>,
}

/// `[handler.*]`.
#[derive(Debug, Clone)]
pub struct HandlerConfig {
    /// The component's file; absolute; watched.
    pub component: PathBuf,
    /// The queues that it reads; never empty.
    pub queues: Vec<String>,
    /// Most events at once; never 0.
    pub concurrency: u32,
    /// Which events it takes; none: all of them. Shared, because configurations are cloned and it is compiled.
    pub filter: Option<Arc<Filter>>,
    /// Nothing is pulled for it.
    pub paused: bool,
    /// Most events held for their lane or their time; never 0.
    pub parked: u32,
    /// The attribute by whose value its events run one at a time, in order.
    pub order_by: Option<String>,
    /// Events older than this end as expired.
    pub expires: Option<Duration>,
    /// Window in which a second event with the same source and id ends as duplicate.
    pub duplicates: Option<Duration>,
    /// Which export is run; none: the first that Weir knows.
    pub run: Option<Export>,
    /// How many events one call gets; none: not written, one, and it need not be a batch handler.
    pub batch: Option<BatchPolicy>,
    /// Its limits, each at most its ceiling.
    pub limits: Limits,
    /// Where each of them came from, for `weir check`.
    pub limit_sources: LimitSources,
    /// When it is tried again.
    pub retry: RetryPolicy,
    /// What it reads through wasi:config.
    pub config: Vec<(String, ConfigValue)>,
    /// What it may touch.
    pub grants: Grants,
}

/// One value of `[handler.*.config]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigValue {
    /// The text itself.
    Text(String),
    /// The text of this file; absolute; watched.
    File(PathBuf),
    /// A text with values put in for `${NAME}` or `${file:…}`: neither it nor they may be shown.
    Secret {
        /// The whole text.
        text: Secret,
        /// What was put in.
        values: Vec<Secret>,
    },
}

/// `[handler.*.limits]`: each binds, and says so when it fires (sandbox.md §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// wasmtime fuel per event, about one per instruction.
    pub fuel: u64,
    /// Bytes of the linear memories of one instance together.
    pub memory: u64,
    /// Table elements of one instance together.
    pub tables: u64,
    /// Resources it may hold open at once.
    pub handles: u32,
    /// Wall clock per event, host calls included.
    pub deadline: Duration,
    /// Log and stdio bytes per event.
    pub output: u64,
    /// Outgoing requests and mails per event.
    pub requests: u32,
    /// Events it may emit per event.
    pub publishes: u32,
    /// Bytes of those together.
    pub published: u64,
    /// Bytes of one response body taken in.
    pub response: u64,
}

/// `[handler.*.retry]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all that the handler itself failed.
    pub attempts: u32,
    /// Tries in all after a trap or an exhausted limit.
    pub trap: u32,
    /// The first wait.
    pub backoff_from: Duration,
    /// The longest wait of the backoff.
    pub backoff_to: Duration,
    /// The longest wait that a handler may ask for.
    pub after_max: Duration,
    /// How long failures from outside are tried again.
    pub outage: Duration,
    /// Outside failures in a row that pause the subscription; 0: never.
    pub pause_after: u32,
}

/// `[handler.*.grants]`: nothing is granted that is not here.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// `email`.
    pub email: Option<EmailGrant>,
    /// `publish`.
    pub publish: Option<PublishGrant>,
    /// `http`; empty: no request.
    pub http: Vec<HttpGrant>,
    /// `keyvalue`, by bucket; empty: not granted.
    pub keyvalue: Vec<BucketGrant>,
}

/// One item of `grants.keyvalue`: a bucket that it may read and write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketGrant {
    /// Its name, which is what the handler opens.
    pub bucket: String,
    /// Where it is; none: in the store, for this handler alone.
    pub url: Option<StoreUrl>,
    /// Most bytes of it.
    pub max_size: u64,
}

/// `grants.publish`: where it may emit events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishGrant {
    /// Queues of weir.toml.
    pub queues: Vec<String>,
    /// `"self"`: its own queue, for itself alone.
    pub own: bool,
}

impl PublishGrant {
    /// What weir.toml calls [`PublishGrant::own`].
    pub const OWN: &str = "self";
}

/// `grants.email`.
#[derive(Debug, Clone)]
pub struct EmailGrant {
    /// Where mail goes.
    pub relay: Relay,
    /// The fixed sender, as in RFC 5322: `QA <noreply@example.com>`; checked to parse.
    pub from: String,
    /// Patterns of recipients: an address, `*@domain`, or `*`.
    pub to: Vec<String>,
    /// Most mails in a time; none: as many as it likes.
    pub rate: Option<Rate>,
}

/// A number of things per second, minute, hour or day: `10/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; never 0.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

/// `grants.email.relay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relay {
    /// `file:DIR`: one `.eml` file a message. Absolute.
    File(PathBuf),
    /// `smtp://` or `smtps://`.
    Smtp {
        /// Host name or address.
        host: String,
        /// Port: 587 for smtp, 465 for smtps, unless given.
        port: u16,
        /// How the connection is secured.
        tls: RelayTls,
        /// User and password, percent-decoded.
        credentials: Option<(String, Secret)>,
    },
}

/// How the connection to a relay is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayTls {
    /// `smtp://…?tls=none`: not at all.
    None,
    /// `smtp://…`: STARTTLS, required.
    StartTls,
    /// `smtps://…`: from the first byte.
    Implicit,
}

/// `[ceilings]`, the operator's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// wasmtime fuel per event.
    pub fuel: u64,
    /// Bytes of one instance.
    pub memory: u64,
    /// Wall clock per event.
    pub deadline: Duration,
    /// Bytes of all running instances together.
    pub total_memory: u64,
    /// Events of one handler at once.
    pub concurrency: u32,
    /// Events of one subscription held for their lane or their time.
    pub parked: u32,
    /// Table elements of one instance.
    pub tables: u64,
    /// Resources of one instance.
    pub handles: u32,
    /// Log and stdio bytes per event.
    pub output: u64,
    /// Outgoing requests and mails per event.
    pub requests: u32,
    /// Events that one event may emit.
    pub publishes: u32,
    /// Bytes of those together.
    pub published: u64,
    /// Bytes of one response body.
    pub response: u64,
    /// Bytes of the wasm stack; the server's.
    pub stack: u64,
    /// Bytes of the largest component file.
    pub component: u64,
    /// How many handlers an event may descend through.
    pub hops: u32,
}

/// The defaults of surface.md §1.
impl Default for Ceilings {
    fn default() -> Self {
        Self {
            fuel: 10_000_000_000,
            memory: 256 << 20,
            deadline: Duration::from_secs(300),
            total_memory: 2 << 30,
            concurrency: 256,
            parked: 10_000,
            tables: 1_000_000,
            handles: 100_000,
            output: 4 << 20,
            requests: 1_000,
            publishes: 10_000,
            published: 64 << 20,
            response: 64 << 20,
            stack: 512 << 10,
            component: 64 << 20,
            hops: 16,
        }
    }
}

/// The defaults of surface.md §1.
impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            trap: 2,
            backoff_from: Duration::from_secs(1),
            backoff_to: Duration::from_secs(300),
            after_max: Duration::from_secs(24 * 3600),
            outage: Duration::from_secs(24 * 3600),
            pause_after: 20,
        }
    }
}

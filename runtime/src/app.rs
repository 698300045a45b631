//! Wiring: a configuration becomes a running server, and a running server stops in order. The only module that knows all parts.

pub mod data;
mod operator;
mod status;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::data::{DataError, DataFolder};
use self::operator::Operator;
use crate::admin::{self, Backend};
use crate::config::{Config, QueueConfig};
use crate::dead::DeadPlaces;
use crate::dispatcher::{Shared, Subscription};
use crate::handler::{Handler, LoadProblem, Loader, watch};
use crate::keyvalue::Places;
use crate::mail::Relays;
use crate::outgoing::Outgoing;
use crate::queue::fallback::FallbackQueue;
use crate::queue::{self, Opening, Queue, QueueError};
use crate::sandbox::Sandbox;
use crate::store::{Settings, Store, StoreError};

/// How long HTTP still takes events after SIGTERM, so that load balancers see `/readyz` first (delivery.md §12).
const LAME_DUCK: Duration = Duration::from_secs(2);

/// How long HTTP may take to end what it began once the queues are closed.
const HTTP_END: Duration = Duration::from_secs(2);

/// How long a mail that is half sent may take to be finished: nobody knows else whether it went.
const MAIL_END: Duration = Duration::from_secs(10);

/// The same for writes of buckets: longer than a server has for a command.
const WRITES_END: Duration = Duration::from_secs(6);

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Components or texts that can't be used: the configuration's fault.
    #[error("{}", .0.iter().map(|(name, problem)| format!("handler `{name}`: {problem}")).collect::<Vec<_>>().join("\n"))]
    Handlers(Vec<(String, LoadProblem)>),
    /// More handlers than components may be mapped.
    #[error("{handlers} handlers are more than [server] loaded allows ({loaded}): raise it, or split them over several servers")]
    TooMany {
        /// In the configuration.
        handlers: usize,
        /// The bound.
        loaded: u32,
    },
    /// Each handler has an instance of its own, and a new version needs one to be tried in.
    #[error("[server] instances is {instances}, too few for {handlers} handlers (expected more than one each)")]
    TooFew {
        /// In the configuration.
        handlers: usize,
        /// The bound, or what `vm.max_map_count` leaves of it.
        instances: usize,
    },
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A queue.
    #[error("queue `{name}`: {error}")]
    Queue {
        /// Its name.
        name: String,
        /// Why.
        error: QueueError,
    },
    /// A handler may run longer than its queue can keep an event (delivery.md §3).
    #[error(
        "handler `{handler}`: its deadline of {deadline:?} is over nine tenths of the {hold:?} that queue `{queue}` can keep an event \
         (lower `deadline`, or raise what the broker allows)"
    )]
    Deadline {
        /// The handler.
        handler: String,
        /// The queue.
        queue: String,
        /// What the handler may take.
        deadline: Duration,
        /// What the queue allows.
        hold: Duration,
    },
    /// The address.
    #[error("can't listen on {address}: {error} (change [server] listen; port 0 takes any free one)")]
    Listen {
        /// As written.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

/// What asked the server to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C: a person waits.
    Interrupt,
    /// SIGTERM: a supervisor, perhaps with a load balancer in front.
    Terminate,
}

/// Queues that are open, by name.
type Queues = BTreeMap<String, (Arc<dyn Queue>, QueueConfig)>;

/// A server that is ready to run.
pub struct App {
    config: Config,
    queues: Queues,
    handlers: Vec<Arc<Handler>>,
    subscriptions: Vec<Arc<Subscription>>,
    loader: Arc<Loader>,
    store: Arc<Store>,
    letters: Arc<DeadPlaces>,
    listener: TcpListener,
    address: SocketAddr,
    draining: Arc<AtomicBool>,
    // Last, so that the folder is given up after everything in it is closed.
    data: DataFolder,
}

impl App {
    /// Loads handlers, opens queues, makes subscriptions and listens, in this order: nothing outside is touched before all that the
    /// configuration names has been found good. Handlers run on `guests`.
    ///
    /// # Errors
    /// Why it can't start.
    pub async fn start(config: Config, guests: &Handle) -> Result<Self, StartError> {
        if config.handlers.len() > config.server.loaded as usize {
            return Err(StartError::TooMany { handlers: config.handlers.len(), loaded: config.server.loaded });
        }
        let data = DataFolder::own(&config.server.data)?;
        let name = data.name(config.server.name.as_deref())?;
        tracing::info!(%name, group = %config.server.group, data = %config.server.data.display(), "starting");
        for warning in config.warnings() {
            tracing::warn!(%warning, "configuration");
        }
        let store = Store::open_with(&Settings::of(&config, &name))?;
        let sandbox = Sandbox::new(&config.ceilings, config.server.instances, Some(&config.server.data));
        let instances = sandbox.instances() as usize;
        if instances <= config.handlers.len() {
            return Err(StartError::TooFew { handlers: config.handlers.len(), instances });
        }
        let relays = Relays::new(Arc::clone(&store), config.server.mail_kept, Handle::current());
        let outgoing = Outgoing::new(Handle::current());
        let buckets = Places::new(Arc::clone(&store), &config.server.group, Handle::current());
        let server = config.server.clone();
        let loader = Arc::new(Loader { sandbox, relays, outgoing, buckets, server, guests: guests.clone() });
        let handlers = load_handlers(&config, &loader).await?;
        let queues = open_queues(&config, &name, &store).await?;
        let own = queues.iter().map(|(name, (queue, _))| (name.as_str(), &**queue));
        let letters = Arc::new(DeadPlaces::of_queues(Arc::clone(&store) as _, own));
        let shared = Arc::new(Shared {
            store: Arc::clone(&store),
            letters: Arc::clone(&letters) as _,
            queues: queues.iter().map(|(name, (queue, _))| (name.clone(), Arc::clone(queue))).collect(),
            graves: config.queues.iter().filter_map(|(name, queue)| Some((name.clone(), queue.dead.clone()?))).collect(),
            guests: guests.clone(),
            hops: config.ceilings.hops,
            name: name.clone(),
        });
        let subscriptions = subscribe(&config, &queues, &handlers, &shared).await?;
        let listen = config.server.listen;
        let failed = |error| StartError::Listen { address: listen, error };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        data.announce(&format!("http://{address}"))?;
        let draining = Arc::new(AtomicBool::new(false));
        Ok(Self { config, queues, handlers, subscriptions, loader, store, letters, listener, address, draining, data })
    }

    /// The line that says that events are taken: printed once, stable, parsed by scripts.
    #[must_use]
    pub fn ready_line(&self) -> String {
        format!("weir ready http://{} queues={} handlers={}", self.address, self.queues.len(), self.handlers.len())
    }

    /// Serves until `stop` answers, then drains. Answers how many deliveries had to be given back while they ran.
    pub async fn run(self, stop: impl Future<Output = Stop>) -> u64 {
        let group = &self.config.server.group;
        let operator = Operator::new(&self.queues, group, &self.handlers, (&self.store, &self.letters));
        let backend = status::Status::new(&self.queues, group, &self.subscriptions, &operator, &self.draining);
        warn_of_orphans(&*backend).await;
        let state = admin::State::new(&self.config.server, &self.queues, backend);
        let ingress = Arc::clone(&state.ingress);
        let (pulling, watching, http) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let mut serving = tokio::spawn(admin::serve(self.listener, state, http.clone()));
        let loader = Arc::clone(&self.loader);
        let watcher = tokio::spawn(watch::watch(self.handlers, self.loader, watching.clone()));
        // Before anything is pulled: what was paused stays so over a restart.
        if let Err(error) = operator.read_pauses().await {
            tracing::warn!(%error, "who is paused can't be read yet: until then all are");
            operator.pause_all();
        }
        tokio::spawn(operator.follow_pauses(watching.clone()));
        let grace = self.config.server.grace;
        let reading = self.subscriptions.into_iter().map(|subscription| {
            let pulling = pulling.clone();
            tokio::spawn(subscription.serve(pulling, grace))
        });
        let reading: Vec<_> = reading.collect();

        let stop = stop.await;
        tracing::info!(grace = ?grace, "draining");
        self.draining.store(true, Ordering::Relaxed);
        if stop == Stop::Terminate && !self.address.ip().is_loopback() {
            tokio::time::sleep(LAME_DUCK).await;
        }
        ingress.close();
        watching.cancel();
        pulling.cancel();
        let mut given_back = 0;
        for subscription in reading {
            match subscription.await {
                Ok(count) => given_back += count,
                Err(error) => tracing::error!(%error, "a subscription failed"),
            }
        }
        if tokio::time::timeout(MAIL_END, loader.relays.idle()).await.is_err() {
            tracing::warn!("a mail was under way for too long: whether it went is not known");
        }
        if tokio::time::timeout(WRITES_END, loader.buckets.idle()).await.is_err() {
            tracing::warn!("a write of a bucket was under way for too long: whether it was made is not known");
        }
        for (queue, _) in self.queues.values() {
            queue.close().await;
        }
        http.cancel();
        if tokio::time::timeout(HTTP_END, &mut serving).await.is_err() {
            serving.abort();
        }
        // It may be compiling, which nothing can stop: the thread ends with the process.
        watcher.abort();
        tracing::info!(given_back, "stopped");
        drop(self.data);
        given_back
    }
}

/// Events that wait for a handler that is gone wait for ever: said at every start (delivery.md §10).
async fn warn_of_orphans(backend: &dyn Backend) {
    for queue in backend.queues().await {
        for orphan in queue.subscriptions.iter().filter(|subscription| subscription.orphan) {
            let (queue, handler, depth) = (&queue.name, &orphan.handler, orphan.depth);
            tracing::warn!(%queue, %handler, depth, "orphaned subscription: its events are kept until `weir handlers forget`");
        }
    }
}

/// Loads every handler; all that can't be used are told at once.
async fn load_handlers(config: &Config, loader: &Arc<Loader>) -> Result<Vec<Arc<Handler>>, StartError> {
    let (mut handlers, mut problems) = (Vec::new(), Vec::new());
    for (name, handler) in &config.handlers {
        let loaded = match loader.read(handler) {
            Ok(source) => loader.load(name, handler, source).await,
            Err(problem) => Err(problem),
        };
        match loaded {
            Ok(version) => handlers.push(Handler::new(name, handler.clone(), version)),
            Err(problem) => problems.push((name.clone(), problem)),
        }
    }
    if problems.is_empty() { Ok(handlers) } else { Err(StartError::Handlers(problems)) }
}

async fn open_queues(config: &Config, process: &str, store: &Arc<Store>) -> Result<Queues, StartError> {
    let mut queues = Queues::new();
    for (name, queue) in &config.queues {
        let opening = Opening {
            name: name.clone(),
            kind: queue.kind.clone(),
            key: queue.key.clone(),
            map: queue.map.clone(),
            max_size_bytes: queue.max_size,
            process: process.to_owned(),
            group: config.server.group.clone(),
            dead: queue.dead_bounds,
            store: Some(Arc::clone(store)),
        };
        let opened = queue::open(&queue.url, opening).await;
        let failed = |error| StartError::Queue { name: name.clone(), error };
        let mut opened = opened.map_err(failed)?;
        if let Some(folder) = queue.fallback.clone() {
            opened = FallbackQueue::open(opened, name, folder, queue.max_size).await.map_err(failed)?;
        }
        queues.insert(name.clone(), (opened, queue.clone()));
    }
    Ok(queues)
}

/// Makes each handler's subscription of each of its queues, before the ready line (delivery.md §10).
async fn subscribe(
    config: &Config,
    queues: &Queues,
    handlers: &[Arc<Handler>],
    shared: &Arc<Shared>,
) -> Result<Vec<Arc<Subscription>>, StartError> {
    let mut subscriptions = Vec::new();
    for handler in handlers {
        let name = format!("{}-{}", config.server.group, handler.name);
        for queue_name in &handler.config.queues {
            // Configuration has checked that it is there.
            let Some((queue, settings)) = queues.get(queue_name) else { continue };
            let failed = |error| StartError::Queue { name: queue_name.clone(), error };
            let deadline = handler.config.limits.deadline;
            if let Some(hold) = queue.features().hold.filter(|hold| deadline > *hold / 10 * 9) {
                let (handler, queue) = (handler.name.to_string(), queue_name.clone());
                return Err(StartError::Deadline { handler, queue, deadline, hold });
            }
            if handler.config.order_by.is_some() {
                queue.keep_order(&name).map_err(failed)?;
            }
            // It tells the queue how much it will hold, which some have to know when they subscribe.
            let of = (queue_name.as_str(), Arc::clone(queue));
            let subscription = Subscription::new(name.clone(), of, Arc::clone(handler), Arc::clone(shared));
            match queue.subscribe(&name, settings.start).await {
                // It is made on the first connection; until then `/readyz` says so (delivery.md §10, §12).
                Err(QueueError::Unavailable(error)) if queue.features().shared => {
                    tracing::warn!(queue = %queue_name, %error, "broker is away: trying again");
                }
                made => made.map_err(failed)?,
            }
            subscriptions.push(subscription);
        }
    }
    Ok(subscriptions)
}

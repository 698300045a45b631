//! One soak: published, disturbed, and audited by what both processes wrote to their logs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Builder;
use weir_runtime::dead::DeadBounds;
use weir_runtime::event::Event;
use weir_runtime::queue::url::QueueUrl;
use weir_runtime::queue::{self, Opening, Publish, QueueError};
use weir_tests::guests;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::{Server, Site};

/// Events unless `WEIR_TEST_EVENTS` says otherwise, as `make soak` does.
const EVENTS: usize = 10_000;

/// Events of one publish.
const BATCH: usize = 500;

/// Longest that one may take: some five times what the slowest broker needs on two busy cores.
const BOUND: Duration = Duration::from_secs(600);

/// Between two looks at how far it has got, and before a publish that failed is repeated.
const PACE: Duration = Duration::from_millis(50);

/// What is read here, and no more: how runs end.
const LEVELS: &str = "info,weir_runtime::dispatcher=debug";

/// Each has the machine to itself.
static TURN: Mutex<()> = Mutex::new(());

/// A server that can be restarted.
pub(crate) trait Broker {
    /// Ends it as its administrator would, and starts it again.
    fn restart(&mut self);
}

/// See the module.
pub(crate) struct Soak {
    name: &'static str,
    url: String,
    /// Whether each event has to end.
    at_least_once: bool,
}

/// The processes, and how often each event has ended in them.
struct Cluster {
    sites: [Site; 2],
    running: Vec<Running>,
    ended: HashMap<usize, usize>,
    begun: Instant,
}

/// A process, and how many lines of its log were read.
struct Running {
    server: Server,
    read: usize,
}

impl Soak {
    /// Of an adapter that promises at least once.
    pub(crate) fn new(name: &'static str, url: &str) -> Self {
        Self { name, url: url.to_owned(), at_least_once: true }
    }

    /// Of one that promises at most once.
    pub(crate) fn at_most_once(name: &'static str, url: &str) -> Self {
        Self { at_least_once: false, ..Self::new(name, url) }
    }

    /// Runs it.
    pub(crate) fn run(&self, mut broker: impl Broker) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let count = number("WEIR_TEST_EVENTS").map_or(EVENTS, |count| usize::try_from(count).unwrap());
        let seed = number("WEIR_TEST_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
        eprintln!("{}: {count} events, WEIR_TEST_SEED={seed}", self.name);
        // What the processes share beside the queue.
        let store = RedisServer::start(Keeps::Nothing, &[]);
        let mut cluster = Cluster::start(["a", "b"].map(|name| Site::new(&self.config(name, &store))));
        let publishing = std::thread::spawn({
            let url = self.url.clone();
            move || publish(&url, count, seed)
        });
        cluster.wait_until(count / 3, "a third has ended");
        broker.restart();
        cluster.wait_until(count * 2 / 3, "two thirds have ended");
        cluster.kill();
        publishing.join().expect("everything is published");
        let took = cluster.begun.elapsed();
        if self.at_least_once {
            cluster.wait_until(count, "all have ended");
        }
        let whole = cluster.begun.elapsed();
        let ended = cluster.stop();
        let repeated = ended.values().filter(|times| **times > 1).count();
        assert!(ended.len() <= count && (!self.at_least_once || ended.len() == count), "{} of {count} ended", ended.len());
        eprintln!(
            "{}: {} of {count} ended, {repeated} of them more than once; published in {:.1} s, over in {:.1} s",
            self.name,
            ended.len(),
            took.as_secs_f64(),
            whole.as_secs_f64()
        );
    }

    fn config(&self, name: &str, store: &RedisServer) -> String {
        format!(
            "server.name = \"{name}\"\nserver.store = \"{}\"\n\
             [queue.events]\nurl = \"{}\"\nstart = \"all\"\n\
             [handler.it]\ncomponent = \"{}\"\nqueue = \"events\"\nconcurrency = 32\n\
             [handler.it.retry]\nattempts = 3\nbackoff = \"50ms..500ms\"\n",
            store.url(0),
            self.url,
            guests::SOAK_WAYS
        )
    }
}

/// Publishes all events, as a producer does: what is not confirmed is published again, under the same id.
fn publish(url: &str, count: usize, seed: u64) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let opening = Opening {
            name: "events".to_owned(),
            kind: "soak".to_owned(),
            key: None,
            map: None,
            max_size_bytes: u64::MAX,
            process: "publisher".to_owned(),
            group: "weir".to_owned(),
            dead: DeadBounds::default(),
            store: None,
        };
        let url = QueueUrl::parse(url, std::path::Path::new("")).unwrap();
        let queue = queue::open(&url, opening).await.unwrap();
        let all: Vec<_> = (0..count).map(|at| Publish { event: event(at, seed), due: None }).collect();
        for batch in all.chunks(BATCH) {
            while let Err(error) = queue.publish(batch.to_vec()).await {
                assert!(matches!(error, QueueError::Unavailable(_) | QueueError::Full { .. }), "{error}");
                tokio::time::sleep(PACE).await;
            }
        }
        queue.close().await;
    });
}

fn event(at: usize, seed: u64) -> Arc<Event> {
    Arc::new(Event {
        id: at.to_string(),
        source: "/soak".to_owned(),
        kind: "soak".to_owned(),
        data: Some(seed.to_string().into()),
        ..Event::default()
    })
}

impl Cluster {
    fn start(sites: [Site; 2]) -> Self {
        let running = sites.iter().map(Running::start).collect();
        Self { sites, running, ended: HashMap::new(), begun: Instant::now() }
    }

    /// Waits until so many events have ended.
    fn wait_until(&mut self, count: usize, what: &str) {
        loop {
            for running in &mut self.running {
                let lines = running.server.log().since(running.read);
                running.read += lines.len();
                note(&mut self.ended, &lines);
            }
            if self.ended.len() >= count {
                return;
            }
            if self.begun.elapsed() > BOUND {
                let tails: Vec<String> = self.running.iter().map(|running| running.server.log().tail()).collect();
                panic!("not within {BOUND:?}: {what} ({} have)\n{}", self.ended.len(), tails.join("\n\n"));
            }
            std::thread::sleep(PACE);
        }
    }

    /// SIGKILL for one of them, which is started again.
    fn kill(&mut self) {
        let Running { server, read } = self.running.remove(0);
        let log = server.kill9();
        let _whole = log.end();
        note(&mut self.ended, &log.since(read));
        self.running.push(Running::start(&self.sites[0]));
    }

    /// Stops both, once they have nothing in hand; their counters agree.
    fn stop(mut self) -> HashMap<usize, usize> {
        for Running { server, read } in self.running.drain(..) {
            server.eventually("nothing is in hand", |server| {
                let metrics = server.metrics();
                metrics.assert_identity();
                metrics.sum("weir_events_in_flight", &[]) + metrics.sum("weir_events_parked", &[]) == 0
            });
            let log = server.stop();
            let _whole = log.end();
            note(&mut self.ended, &log.since(read));
        }
        self.ended
    }
}

impl Running {
    fn start(site: &Site) -> Self {
        let server = site.try_start_saying(LEVELS).unwrap_or_else(|ran| panic!("the server did not start: {ran:?}"));
        Self { server, read: 0 }
    }
}

/// Counts the events that ended in these lines.
fn note(ended: &mut HashMap<usize, usize>, lines: &[String]) {
    for line in lines.iter().filter(|line| line.contains("event acknowledged") || line.contains("event dead-lettered")) {
        // The last line of a killed process may be cut.
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let event: usize = line["event"].as_str().unwrap().parse().unwrap();
        *ended.entry(event).or_default() += 1;
    }
}

//! Redis and the two processes: started, scraped all the while, killed in turn and started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::metrics::Metrics;
use weir_tests::server::{Server, Site};

use crate::broker::{self, Standing};
use crate::ledger::Life;
use crate::plan::{Disaster, Plan};

/// Longest that a test may take: some five times what it needs on two cores, in a build without optimization.
const BOUND: Duration = Duration::from_secs(600);

/// Between two scrapes of a process, and two looks at the server.
const PACE: Duration = Duration::from_millis(20);

/// What the ledger reads, and no more.
const LEVELS: &str = "info,weir_runtime::dispatcher=trace";

const NAMES: [&str; 2] = ["a", "b"];

/// See the module.
pub(crate) struct Cluster<'a> {
    plan: &'a Plan,
    redis: RedisServer,
    /// Ids of all events.
    published: Vec<(u64, u64)>,
    begun: Instant,
    sites: [Site; 2],
    running: Vec<Running>,
    lives: Vec<Life>,
    scrapes: u64,
    /// When the server was away.
    outages: Vec<(SystemTime, SystemTime)>,
}

/// What the cluster leaves.
pub(crate) struct History {
    pub(crate) lives: Vec<Life>,
    pub(crate) outages: Vec<(SystemTime, SystemTime)>,
    pub(crate) scrapes: u64,
}

struct Running {
    // Dropped first: a server that is ended can't be scraped.
    scraper: Scraper,
    server: Server,
}

impl<'a> Cluster<'a> {
    /// Redis with all events, and both processes.
    pub(crate) fn start(plan: &'a Plan) -> Self {
        // Synced at every write: it survives both kinds of restart.
        let redis = RedisServer::start(Keeps::Always, &[]);
        let published = broker::fill(&redis, plan);
        let sites = NAMES.map(|name| Site::new(&plan.config(name, &redis.url(0))));
        let running = sites.iter().map(Running::start).collect();
        let (lives, outages) = (Vec::new(), Vec::new());
        Self { plan, redis, published, begun: Instant::now(), sites, running, lives, scrapes: 0, outages }
    }

    /// All disasters, each when its time has come.
    pub(crate) fn suffer(&mut self) {
        for (left, disaster) in self.plan.disasters.clone() {
            self.wait_until(|cluster| cluster.left() <= left);
            match disaster {
                Disaster::Process(index) => self.kill(index),
                Disaster::Reader => {
                    self.wait_until(|cluster| broker::reader(&cluster.redis).is_some());
                    let reader = broker::reader(&self.redis);
                    // Its lead may just have ended: then the other one will have it.
                    let index = NAMES.iter().position(|name| reader.as_deref() == Some(name)).unwrap_or(0);
                    self.kill(index);
                }
                Disaster::ServerStops => self.restart(RedisServer::stop),
                Disaster::ServerDies => self.restart(RedisServer::kill),
            }
        }
    }

    /// Waits until nothing is left.
    pub(crate) fn end_of_work(&mut self) {
        self.wait_until(|cluster| cluster.left() == 0);
    }

    /// What the server holds.
    pub(crate) fn standing(&self) -> Standing {
        broker::standing(&self.redis)
    }

    /// Stops both processes, which have nothing left to do.
    pub(crate) fn stop(mut self) -> History {
        for Running { server, scraper } in self.running.drain(..) {
            server.eventually("nothing is in hand", |server| {
                let metrics = server.metrics();
                metrics.sum("weir_events_in_flight", &[]) + metrics.sum("weir_events_parked", &[]) == 0
            });
            self.scrapes += scraper.end();
            self.lives.push(Life { log: server.stop().end(), killed: None });
        }
        History { lives: self.lives, outages: self.outages, scrapes: self.scrapes }
    }

    fn left(&self) -> usize {
        broker::left(&self.redis, &self.published)
    }

    fn wait_until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            if self.begun.elapsed() > BOUND {
                let tails: Vec<String> = self.running.iter().map(|running| running.server.log().tail()).collect();
                panic!("{} events are left after {BOUND:?}\n{}", self.left(), tails.join("\n\n"));
            }
            std::thread::sleep(PACE);
        }
    }

    fn kill(&mut self, index: usize) {
        let Running { server, scraper } = self.running.remove(index);
        self.scrapes += scraper.end();
        // Before the signal: what another process begins after this may run beside nothing.
        let killed = Some(SystemTime::now());
        self.lives.push(Life { log: server.kill9().end(), killed });
        self.running.insert(index, Running::start(&self.sites[index]));
    }

    fn restart(&mut self, end: impl Fn(&mut RedisServer)) {
        let from = SystemTime::now();
        end(&mut self.redis);
        for running in &self.running {
            running.server.eventually("it knows that the server is away", |server| !is_connected(server));
        }
        self.redis.start_again();
        for running in &self.running {
            running.server.eventually("it is connected again", is_connected);
        }
        self.outages.push((from, SystemTime::now()));
    }
}

fn is_connected(server: &Server) -> bool {
    let queues = server.get("/api/queues").body;
    queues.as_array().unwrap().iter().any(|queue| queue["name"] == "events" && queue["connected"] == true)
}

impl Running {
    fn start(site: &Site) -> Self {
        let server = site.try_start_saying(LEVELS).unwrap_or_else(|ran| panic!("the server did not start: {ran:?}"));
        let scraper = Scraper::start(server.url.clone());
        Self { server, scraper }
    }
}

/// Asserts the counting identity of a process again and again.
struct Scraper {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Scraper {
    fn start(url: String) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let thread = Some(std::thread::spawn(move || {
            let mut scrapes = 0;
            while !until.load(Ordering::Relaxed) {
                let mut answer = ureq::get(format!("{url}/metrics")).call().unwrap();
                Metrics::parse(&answer.body_mut().read_to_string().unwrap()).assert_identity();
                scrapes += 1;
                std::thread::sleep(PACE);
            }
            scrapes
        }));
        Self { ended, thread }
    }

    /// How often.
    fn end(mut self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its own panic was shown; this is the end of a test that has failed.
            let _ = thread.join();
        }
    }
}

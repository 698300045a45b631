//! One clock, the processes that go by it, and the ledger of what is expected of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use mail_parser::MessageParser;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_tests::clock::Clock;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::log::Log;
use weir_tests::server::{Server, Site};

use crate::oracle::Quiet;

/// Longest step of the clock while nothing is due: what comes at a time at which nobody expects it is found out.
const STEP: SignedDuration = SignedDuration::from_hours(3);

/// How long the clock stands, of real time, where nothing may happen: a server looks at it every 4 ms.
const PACE: Duration = Duration::from_millis(7);

/// Longest wait, of real time, for what is due: a process that was killed has its leases for a second, and the machine is busy.
const SOON: Duration = Duration::from_secs(30);

/// Where queue and store are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the folder of the one process.
    Disk,
    /// On a Redis server that two processes share.
    Redis,
}

/// See the module.
pub(crate) struct World {
    clock: Clock,
    // Dropped before what they go by.
    servers: Vec<Option<Server>>,
    sites: Vec<Site>,
    _redis: Option<RedisServer>,
    outbox: TempDir,
    files: BTreeSet<String>,
    /// Mails that have not come, by when they are due.
    expected: BTreeMap<Timestamp, Vec<Expected>>,
    mails: usize,
    turn: usize,
}

/// A mail that has not come.
struct Expected {
    /// What tells it.
    told: String,
    /// When it is not sent, should it be late.
    quiet: Option<Quiet>,
}

/// A mail in the outbox.
pub(crate) struct Mail {
    /// When it was handed over, by its file's name.
    pub(crate) at: Timestamp,
    pub(crate) to: String,
    pub(crate) subject: String,
}

impl World {
    /// Starts the processes. `config` is what follows the server's and the queue's own tables; `{outbox}` stands for the relay's folder.
    pub(crate) fn start(place: Place, now: &str, config: &str, files: &[(&str, &[u8])]) -> Self {
        let clock = Clock::new(now.parse().unwrap());
        let outbox = tempfile::tempdir().unwrap();
        let config = config.replace("{outbox}", &outbox.path().display().to_string());
        let redis = (place == Place::Redis).then(|| RedisServer::start(Keeps::Always, &[]));
        let names: &[&str] = if redis.is_some() { &["a", "b"] } else { &["a"] };
        let site = |name: &&str| {
            let url = redis.as_ref().map(|redis| redis.url(0));
            let (store, queue) = match &url {
                Some(url) => (url.clone(), format!("{url}?stream=events&lease=1s")),
                None => ("disk:".to_owned(), "disk:./data/events".to_owned()),
            };
            let server = format!("[server]\nlisten = \"127.0.0.1:0\"\nname = \"{name}\"\nstore = \"{store}\"\n");
            let site = Site::with_clock(&format!("{server}[queue.events]\nurl = \"{queue}\"\n{config}"), &clock);
            files.iter().for_each(|(name, content)| site.write(name, content));
            site
        };
        let sites: Vec<Site> = names.iter().map(site).collect();
        let servers = sites.iter().map(|site| Some(start(site))).collect();
        let (files, expected) = (BTreeSet::new(), BTreeMap::new());
        Self { clock, servers, sites, _redis: redis, outbox, files, expected, mails: 0, turn: 0 }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How many processes there are, running or not.
    pub(crate) fn processes(&self) -> usize {
        self.sites.len()
    }

    /// How many mails have come.
    pub(crate) fn mails(&self) -> usize {
        self.mails
    }

    /// The servers that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().flatten()
    }

    /// One of them: each in turn.
    pub(crate) fn any(&mut self) -> &Server {
        self.turn += 1;
        let running: Vec<&Server> = self.servers.iter().flatten().collect();
        running[self.turn % running.len()]
    }

    /// Writes a file of the one process that runs, and waits until its handler has taken it up.
    pub(crate) fn edit(&self, name: &str, content: &str) {
        let (site, server) = (&self.sites[0], self.servers[0].as_ref().unwrap());
        let reloads = |server: &Server| server.metrics().sum("weir_reloads_total", &[("result", "succeeded")]);
        let before = reloads(server);
        site.replace(name, content.as_bytes());
        server.eventually(&format!("`{name}` is taken up"), |server| reloads(server) > before);
    }

    /// Enters in the ledger that a mail is due. Should it be late, it waits for the end of quiet hours.
    pub(crate) fn expect(&mut self, due: Timestamp, told: impl Into<String>, quiet: Option<Quiet>) {
        assert!(due >= self.now(), "nothing is expected of the past");
        self.expected.entry(due).or_default().push(Expected { told: told.into(), quiet });
    }

    /// Takes a mail out of the ledger that will not come after all; whether it was there.
    pub(crate) fn withdraw(&mut self, told: &str) -> bool {
        let before: usize = self.expected.values().map(Vec::len).sum();
        self.expected.values_mut().for_each(|mails| mails.retain(|mail| mail.told != told));
        self.expected.retain(|_, mails| !mails.is_empty());
        before > self.expected.values().map(Vec::len).sum()
    }

    /// Publishes an event and waits until it was acknowledged.
    pub(crate) fn publish_for_ack(&mut self, event: &Value) {
        let logs: Vec<(Log, usize)> = self.running().map(|server| (server.log().clone(), server.log().length())).collect();
        let answer = self.any().publish("events", event);
        assert_eq!(answer.status, 202, "{answer:?}");
        self.wait_for_ack(event, &logs);
    }

    /// Waits until one of these logs says, after so many lines, that an event was acknowledged.
    fn wait_for_ack(&mut self, event: &Value, logs: &[(Log, usize)]) {
        let id = format!("\"event\":{}", event["id"]);
        let texts = ["\"event acknowledged\"", &id];
        self.wait("the event is acknowledged", |_| logs.iter().any(|(log, lines)| log.has_since(*lines, &texts)));
        self.settle();
        self.come();
    }

    /// Publishes an event and waits until something was looked at: for when nothing else may be.
    pub(crate) fn publish(&mut self, event: &Value) {
        let before = self.handled();
        let answer = self.any().publish("events", event);
        assert_eq!(answer.status, 202, "{answer:?}");
        self.wait("the event is handled", |world| world.handled() > before);
        self.settle();
        self.come();
    }

    /// Publishes an event and kills a process at that moment, which may have it in hand; it comes back at once.
    pub(crate) fn publish_and_kill(&mut self, event: &Value, index: usize) {
        let answer = self.any().publish("events", event);
        assert_eq!(answer.status, 202, "{answer:?}");
        let killed = self.servers[index].take().unwrap().kill9_unasked();
        self.servers[index] = Some(start(&self.sites[index]));
        let logs = self.running().map(Server::log).chain([&killed]);
        let logs: Vec<(Log, usize)> = logs.map(|log| (log.clone(), 0)).collect();
        self.wait_for_ack(event, &logs);
    }

    /// Publishes an event that is held back, and so is looked at by nobody.
    pub(crate) fn publish_later(&mut self, event: &Value, delay: SignedDuration) {
        let path = format!("/events/events?delay={}s", delay.as_secs());
        let answer = self.any().post(&path, "application/cloudevents+json", &event.to_string());
        assert_eq!(answer.status, 202, "{answer:?}");
    }

    /// Goes on until then: a mail that is due on the way comes at its time, and none at another.
    pub(crate) fn go(&mut self, to: Timestamp) {
        while self.now() < to {
            let ahead = (Bound::Excluded(self.now()), Bound::Unbounded);
            let due = self.expected.range(ahead).next().map(|(due, _)| *due);
            let next = to.min(self.now() + STEP).min(due.unwrap_or(Timestamp::MAX));
            let before = next - SignedDuration::from_secs(1);
            if before > self.now() && (due == Some(next) || next < to) {
                self.clock.set(before);
                std::thread::sleep(PACE);
                self.nothing_comes();
            }
            self.clock.set(next);
            self.come();
        }
    }

    /// Ends a process as a power failure would.
    pub(crate) fn kill(&mut self, index: usize) {
        let _ = self.servers[index].take().unwrap().kill9();
    }

    /// Asks a process to stop, and waits until it has.
    pub(crate) fn stop(&mut self, index: usize) {
        let _ = self.servers[index].take().unwrap().stop();
    }

    /// Starts a process again: what was due while none ran comes now.
    pub(crate) fn start_again(&mut self, index: usize) {
        assert!(self.servers[index].is_none());
        let now = self.now();
        let later = self.expected.split_off(&now);
        for mail in std::mem::replace(&mut self.expected, later).into_values().flatten() {
            let due = mail.quiet.as_ref().map_or(now, |quiet| quiet.end(now));
            self.expected.entry(due).or_default().push(mail);
        }
        self.servers[index] = Some(start(&self.sites[index]));
        self.come();
    }

    /// Asserts that nothing is expected any more, and that nothing has come that was not.
    pub(crate) fn end(mut self) {
        self.settle();
        self.nothing_comes();
        let missing: Vec<&str> = self.expected.values().flatten().map(|mail| mail.told.as_str()).collect();
        assert!(missing.is_empty(), "never came: {missing:?}");
        for server in self.running() {
            assert_eq!(server.dead(), Vec::<Value>::new());
        }
    }

    /// Waits for the mails that are due by now, when there is a process to send them.
    fn come(&mut self) {
        if self.servers.iter().all(Option::is_none) {
            return;
        }
        let now = self.now();
        let later = self.expected.split_off(&(now + SignedDuration::from_nanos(1)));
        let due = std::mem::replace(&mut self.expected, later).into_values().flatten();
        let mut due: Vec<String> = due.map(|mail| mail.told).collect();
        if due.is_empty() {
            return;
        }
        let begun = Instant::now();
        while !due.is_empty() {
            for mail in self.new_mails() {
                let at = due.iter().position(|known| *known == mail.told());
                let at = at.unwrap_or_else(|| panic!("{now}: `{}` came, and these are due: {due:?}", mail.told()));
                assert_eq!(mail.at, now, "`{}`", mail.told());
                let _ = due.swap_remove(at);
            }
            self.patience(begun, || format!("these mails come: {due:?}"));
        }
        self.settle();
    }

    fn nothing_comes(&mut self) {
        let early: Vec<String> = self.new_mails().iter().map(|mail| format!("{} at {}", mail.told(), mail.at)).collect();
        assert!(early.is_empty(), "{}: nothing is due, and these mails came: {early:?}", self.now());
    }

    fn new_mails(&mut self) -> Vec<Mail> {
        let mut mails = Vec::new();
        for entry in std::fs::read_dir(self.outbox.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".eml") && self.files.insert(name.clone()) {
                mails.push(Mail::read(&self.outbox.path().join(name)));
            }
        }
        self.mails += mails.len();
        mails
    }

    /// Deliveries that have ended or went back.
    fn handled(&self) -> u64 {
        let of = |server: &Server| {
            let metrics = server.metrics();
            metrics.sum("weir_events_ended_total", &[]) + metrics.sum("weir_events_returned_total", &[])
        };
        self.running().map(of).sum()
    }

    /// Waits until nothing is under way: neither here, nor with a process that was killed and whose leases stand.
    fn settle(&self) {
        let leased = |server: &Server| {
            let queue = server.get("/api/queues").body[0]["subscriptions"][0]["in_flight"].as_u64();
            queue != Some(0) || server.metrics().sum("weir_events_in_flight", &[]) > 0
        };
        self.wait("nothing runs", |world| !world.running().any(leased));
    }

    /// Waits until this holds.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            self.patience(begun, || what.to_owned());
        }
    }

    fn patience(&self, begun: Instant, what: impl Fn() -> String) {
        if begun.elapsed() > SOON {
            let tails: Vec<String> = self.running().map(|server| server.log().tail()).collect();
            panic!("{}: not within {SOON:?}: {}\n{}", self.now(), what(), tails.join("\n\n"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn start(site: &Site) -> Server {
    let levels = "info,weir_runtime::dispatcher=debug";
    site.try_start_saying(levels).unwrap_or_else(|ran| panic!("the server did not start: {ran:?}"))
}

impl Mail {
    fn read(file: &Path) -> Self {
        let name = file.file_name().unwrap().to_str().unwrap();
        let time = name.split_once('-').unwrap().0;
        let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", time).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        let at = at.unwrap().timestamp();
        let content = std::fs::read(file).unwrap();
        let mail = MessageParser::default().parse(&content).unwrap();
        assert_eq!(mail.date().unwrap().to_timestamp(), at.as_second(), "its Date is of the same clock: {name}");
        let to = mail.header_raw("X-Weir-Recipients").unwrap().trim().to_owned();
        let subject = mail.subject().unwrap_or_default().to_owned();
        // The smallest handler says what time it took it to be.
        let text = mail.body_text(0).unwrap_or_default().trim().parse::<i64>();
        assert!(text.is_err() || text == Ok(at.as_millisecond()), "the handler's time is of the same clock: {name}");
        Self { at, to, subject }
    }

    /// What tells it from others: to whom, and its subject.
    fn told(&self) -> String {
        format!("{}: {}", self.to, self.subject)
    }
}

/// A CloudEvent of a type with this id and data, published now.
pub(crate) fn event(kind: &str, id: &str, data: Value) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/test", "type": kind, "data": data })
}

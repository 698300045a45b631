//! The notifier's *when*, over both changes of clocks in three zones: at once, after a while, at a time of day, gathered; never in quiet
//! hours; not at all when it was answered. Each mail once, none early, none lost, while processes stop, are killed and come back.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use weir_tests::server::Site;

use crate::oracle::{self, Quiet, ZONES};
use crate::world::{Place, World, event};

const DAY: SignedDuration = SignedDuration::from_hours(24);

const CONFIG: &str = r#"
[handler.notifier]
component = "notifier.wasm"
queue = "events"
config.rules = { file = "rules.toml" }
grants.publish = ["self"]
grants.keyvalue = [{ bucket = "digest" }]
grants.email = { relay = "file:{outbox}", from = "w@example.com", to = ["*@example.com"] }
"#;

const RULES: &str = r#"
[[rule]]
name = "note"
type = "note"
to = "data.to"
quiet = "22:00-07:00 data.zone or Europe/Berlin"
[rule.mail.en]
subject = "note {{ event.id }}"
text = "-"

[[rule]]
name = "call"
type = "call"
to = "data.to"
when = "after 10m"
[rule.mail.en]
subject = "call {{ event.id }}"
text = "-"

[[rule]]
name = "nine"
type = "nine"
to = "data.to"
when = "at 09:00 data.zone or Europe/Berlin"
[rule.mail.en]
subject = "nine {{ event.id }}"
text = "-"

[[rule]]
name = "night"
type = "night"
to = "data.to"
when = "at 02:30 data.zone or Europe/Berlin"
[rule.mail.en]
subject = "night {{ event.id }}"
text = "-"

[[rule]]
name = "hourly"
type = "hourly"
to = "data.to"
when = "digest 1h by data.to"
quiet = "22:00-07:00 data.zone or Europe/Berlin"
[rule.mail.en]
subject = "hourly {{ count }}:{% for one in events %} {{ one.event.id }}{% endfor %}"
text = "-"

[[rule]]
name = "evening"
type = "evening"
to = "data.to"
when = "digest at 18:00 data.zone or Europe/Berlin"
[rule.mail.en]
subject = "evening {{ count }}:{% for one in events %} {{ one.event.id }}{% endfor %}"
text = "-"

[[rule]]
name = "asked"
type = "asked"
to = "data.to"
when = "after 3d"
unless = "answered"
quiet = "22:00-07:00 data.zone or Europe/Berlin"
[rule.mail.en]
subject = "asked {{ event.id }}"
text = "-"
"#;

const KINDS: [&str; 7] = ["note", "call", "nine", "night", "hourly", "evening", "asked"];

/// Somebody who gets mail.
struct Person {
    to: String,
    /// What the event says; nothing, and what nobody knows, stand for Berlin.
    named: Option<&'static str>,
    zone: TimeZone,
    /// When clocks change there.
    changes: [Timestamp; 2],
}

fn people() -> Vec<Person> {
    let person = |to: &str, named, at: usize| {
        let changes = ZONES[at].2.map(|day| format!("{day}T00:00:00Z").parse().unwrap());
        Person { to: format!("{to}@example.com"), named, zone: oracle::zone(at), changes }
    };
    let mut people: Vec<Person> = (0..ZONES.len()).map(|at| person(["ann", "bob", "cyd"][at], Some(ZONES[at].0), at)).collect();
    people.extend([person("dan", None, 0), person("eve", Some("Mars/Olympus"), 0)]);
    people
}

/// What happens at a time.
#[derive(Debug, Clone)]
enum Step {
    Event {
        kind: &'static str,
        person: usize,
    },
    /// An event; a process that may have it is killed at that moment.
    Crash {
        kind: &'static str,
        person: usize,
        index: usize,
    },
    Answer {
        id: String,
    },
    Leave {
        index: usize,
        kill: bool,
    },
    Return {
        index: usize,
    },
}

/// What is to be done, and what is to come of it.
struct Weeks {
    world: World,
    people: Vec<Person>,
    /// Events of digests that have not come, by whose and when they end.
    digests: BTreeMap<(&'static str, usize, Timestamp), Vec<String>>,
    /// Reminders that have not come.
    asked: BTreeMap<String, String>,
    number: usize,
}

impl Weeks {
    fn quiet(&self, person: usize) -> Quiet {
        let clock = |hour| Time::new(hour, 0, 0, 0).unwrap();
        Quiet { zone: self.people[person].zone.clone(), from: clock(22), to: clock(7) }
    }

    /// Enters in the ledger what an event of now is to come to; answers the event.
    fn event(&mut self, kind: &'static str, person: usize) -> serde_json::Value {
        self.number += 1;
        let (now, id, quiet) = (self.world.now(), format!("{kind}-{}", self.number), self.quiet(person));
        let Person { to, zone, named, .. } = &self.people[person];
        let clock = |hour, minute| Time::new(hour, minute, 0, 0).unwrap();
        let (due, loud) = match kind {
            "note" => (now, Some(quiet)),
            "call" => (now + SignedDuration::from_mins(10), None),
            "nine" => (oracle::next(zone, clock(9, 0), now, true), None),
            "night" => (oracle::next(zone, clock(2, 30), now, true), None),
            "asked" => (now + DAY * 3, Some(quiet)),
            "hourly" => (oracle::hour(now), Some(quiet)),
            _ => (oracle::next(zone, clock(18, 0), now, false), None),
        };
        let sent = loud.as_ref().map_or(due, |quiet| quiet.end(due));
        let mut event = event(kind, &id, json!({ "to": to, "zone": named }));
        event["subject"] = json!(id);
        if ["hourly", "evening"].contains(&kind) {
            let ids = self.digests.entry((kind, person, sent)).or_default();
            let told = |ids: &[String]| format!("{to}: {kind} {}: {}", ids.len(), ids.join(" "));
            if !ids.is_empty() {
                assert!(self.world.withdraw(&told(ids)), "a digest is open until it is sent");
            }
            ids.push(id);
            self.world.expect(sent, told(ids), loud);
        } else {
            let told = format!("{to}: {kind} {id}");
            if kind == "asked" {
                let _ = self.asked.insert(id, told.clone());
            }
            self.world.expect(sent, told, loud);
        }
        event
    }

    fn answer(&mut self, id: &str) {
        // One that has come was not answered in time.
        if let Some(told) = self.asked.remove(id) {
            let _ = self.world.withdraw(&told);
        }
        let mut answer = event("answered", &format!("to-{id}"), json!({}));
        answer["subject"] = json!(id);
        self.world.publish_for_ack(&answer);
    }

    /// Does all of it; what nobody is there for is done as soon as somebody is.
    fn live(&mut self, mut steps: Vec<(Timestamp, Step)>, random: &mut fastrand::Rng) {
        let mut held = Vec::new();
        steps.reverse();
        while let Some((at, step)) = steps.pop() {
            self.world.go(at);
            let away = self.world.running().count() == 0;
            match step {
                Step::Leave { index, kill: true } => self.world.kill(index),
                Step::Leave { index, kill: false } => self.world.stop(index),
                Step::Return { index } => {
                    self.world.start_again(index);
                    steps.extend(held.drain(..).rev().map(|step| (at, step)));
                }
                step if away => held.push(step),
                Step::Event { kind, person } => {
                    let event = self.event(kind, person);
                    self.world.publish_for_ack(&event);
                    // Half of what is asked is answered, sooner or later.
                    if kind == "asked" && random.bool() {
                        let at = self.world.now() + SignedDuration::from_secs(random.i64(0..4 * 86_400));
                        let id = event["id"].as_str().unwrap().to_owned();
                        let place = steps.partition_point(|(other, _)| *other >= at);
                        steps.insert(place, (at, Step::Answer { id }));
                    }
                }
                Step::Crash { kind, person, index } => {
                    let event = self.event(kind, person);
                    self.world.publish_and_kill(&event, index);
                }
                Step::Answer { id } => self.answer(&id),
            }
        }
    }
}

/// Everything of so many days, in order.
fn steps(random: &mut fastrand::Rng, people: &[Person], start: Timestamp, days: i32, processes: usize) -> Vec<(Timestamp, Step)> {
    let mut steps = Vec::new();
    for (day, at) in (0..days).map(|day| (day, start + DAY * day)) {
        let within = |random: &mut fastrand::Rng, seconds| at + SignedDuration::from_secs(random.i64(0..seconds));
        for (person, of) in people.iter().enumerate() {
            // Where clocks are about to change everything happens, elsewhere something.
            let change = of.changes.iter().any(|change| (*change - SignedDuration::from_hours(36)..*change + DAY).contains(&at));
            for kind in KINDS {
                let times = if change { 2 } else { usize::from(random.u8(0..6) == 0) };
                for _ in 0..times {
                    steps.push((within(random, 86_400), Step::Event { kind, person }));
                }
            }
        }
        // Every second day a process is away for some hours, in the middle of somebody's digest, and every third one is killed at work.
        if day % 2 == 0 {
            let (index, leave) = (random.usize(..processes), within(random, 43_000));
            steps.push((leave, Step::Leave { index, kill: day % 4 == 0 }));
            steps.push((leave + SignedDuration::from_secs(random.i64(0..36_000)), Step::Return { index }));
        } else if day % 3 == 0 {
            let (kind, person) = (KINDS[random.usize(1..KINDS.len())], random.usize(..people.len()));
            steps.push((within(random, 86_400), Step::Crash { kind, person, index: random.usize(..processes) }));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}

/// The component: built from source, unless `WEIR_TEST_NOTIFIER` names one that is there.
pub(crate) fn notifier() -> Vec<u8> {
    if let Some(given) = std::env::var_os("WEIR_TEST_NOTIFIER") {
        return std::fs::read(given).unwrap();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("handlers/email-notifier");
    let built = Site::new("").run(&["build", &folder.to_string_lossy()]).ending(0).stdout;
    std::fs::read(built.trim()).unwrap()
}

fn weeks(place: Place, start: &str, days: i32) {
    let mut random = crate::random();
    let files: [(&str, &[u8]); 2] = [("notifier.wasm", &notifier()), ("rules.toml", RULES.as_bytes())];
    let world = World::start(place, start, CONFIG, &files);
    let steps = steps(&mut random, &people(), world.now(), days, world.processes());
    let mut weeks = Weeks { world, people: people(), digests: BTreeMap::new(), asked: BTreeMap::new(), number: 0 };
    weeks.live(steps, &mut random);
    // The last reminders, and what is swept after them.
    let end = weeks.world.now() + DAY * 7;
    weeks.world.go(end);
    eprintln!("{place:?} from {start}: {} events, {} mails", weeks.number, weeks.world.mails());
    weeks.world.end();
}

// New York on 8 March, Berlin on the 29th, Sydney on 5 April; back on 4 October, the 25th, and 1 November.

#[test]
fn spring_on_disk() {
    weeks(Place::Disk, "2026-03-05T00:00:00Z", 33);
}

#[test]
fn autumn_on_disk() {
    weeks(Place::Disk, "2026-10-01T00:00:00Z", 33);
}

#[test]
fn spring_in_two_processes_on_redis() {
    weeks(Place::Redis, "2026-03-05T00:00:00Z", 33);
}

#[test]
fn autumn_in_two_processes_on_redis() {
    weeks(Place::Redis, "2026-10-01T00:00:00Z", 33);
}

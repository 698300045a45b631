//! What a handler can put off, with the smallest handler that does: events to itself, retries, `?delay=`; and what is forgotten in time:
//! duplicates, mails sent, dead letters, events that are too old.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use weir_tests::guests;
use weir_tests::server::Server;

use crate::world::{Place, World, event};

const START: &str = "2026-03-01T00:00:00Z";
const DAY: SignedDuration = SignedDuration::from_hours(24);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

const CONFIG: &str = r#"
[handler.timer]
component = "{component}"
queue = "events"
duplicates = "10m"
expires = "24h"
grants.publish = ["self"]
grants.email = { relay = "file:{outbox}", from = "w@example.com", to = ["*@example.com"] }
"#;

/// Longest, in seconds, that a process is away.
const AWAY_MAX: i64 = 10 * 3_600;

/// Longest, in seconds, that an event waits for its second try: were its process away then, it would else be older than `expires` when that
/// is back, and end so.
const RETRY_MAX: i64 = 24 * 3_600 - AWAY_MAX;

/// Events of each of the three ways, over five weeks.
const EACH: usize = 30;

fn world(place: Place) -> World {
    World::start(place, START, &CONFIG.replace("{component}", guests::WEEKS_TIMER), &[])
}

/// What is to be done at a time.
enum Step {
    Publish {
        way: usize,
        name: String,
        wait: SignedDuration,
    },
    /// Away for so long.
    Restart {
        index: usize,
        away: SignedDuration,
        kill: bool,
    },
}

fn steps(random: &mut fastrand::Rng, start: Timestamp, processes: usize) -> Vec<(Timestamp, Step)> {
    let mut steps = Vec::new();
    for way in 0..3 {
        for at in 0..EACH {
            let longest = if way == 2 { RETRY_MAX } else { 14 * 86_400 };
            let wait = SignedDuration::from_secs(random.i64(1..longest));
            let step = Step::Publish { way, name: format!("{way}-{at}"), wait };
            steps.push((start + SignedDuration::from_secs(random.i64(0..21 * 86_400)), step));
        }
    }
    // One process: it is away for hours, and what was due meanwhile comes late. Two: the other one does it in time.
    for at in 0..12 {
        let away = SignedDuration::from_secs(random.i64(0..AWAY_MAX));
        let restart = Step::Restart { index: random.usize(..processes), away, kill: at % 2 == 0 };
        steps.push((start + DAY * (at * 3) + SignedDuration::from_secs(random.i64(0..86_400)), restart));
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}

fn what_is_put_off_happens_then(place: Place) {
    let mut world = world(place);
    let mut random = crate::random();
    for (at, step) in steps(&mut random, world.now(), world.processes()) {
        // Nobody restarts what is still away.
        world.go(at.max(world.now()));
        match step {
            Step::Publish { way, name, wait } => {
                let due = world.now() + wait;
                world.expect(due, format!("{name}@example.com: hello"), None);
                match way {
                    0 => world.publish(&event("at", &name, json!(format!("{name} {}", due.as_millisecond())))),
                    1 => world.publish_later(&event("mail", &name, json!(format!("{name} 0"))), wait),
                    _ => world.publish(&event("retry", &name, json!(format!("{name} {}", wait.as_millis())))),
                }
            }
            Step::Restart { index, away, kill } => {
                if kill {
                    world.kill(index)
                } else {
                    world.stop(index)
                }
                world.go(world.now() + away);
                world.start_again(index);
            }
        }
    }
    world.go(world.now() + DAY * 15);
    assert_eq!(world.mails(), 3 * EACH);
    world.end();
}

#[test]
pub(crate) fn what_is_to_happen_later_happens_then_on_disk() {
    what_is_put_off_happens_then(Place::Disk);
}

#[test]
fn what_is_to_happen_later_happens_then_in_two_processes_on_redis() {
    what_is_put_off_happens_then(Place::Redis);
}

/// What is kept for a while is kept as long as the documentation says, of the clock's time, and no longer.
#[test]
fn what_is_kept_is_forgotten_in_time() {
    for place in [Place::Disk, Place::Redis] {
        let mut world = world(place);
        let copy = event("mail", "copy", json!("copy 0"));
        let ended = |world: &World, state| {
            world.running().map(|server| server.metrics().sum("weir_events_ended_total", &[("state", state)])).sum::<u64>()
        };
        let begin = world.now();
        // After ten minutes it is no duplicate any more, and for a week after it was sent its mail is known.
        for (after, mailed, duplicates) in [
            (SignedDuration::ZERO, 1, 0),
            (MINUTE * 9, 1, 1),
            (MINUTE * 11, 1, 1),
            (DAY * 7 - MINUTE * 15, 1, 1),
            (DAY * 7 + MINUTE, 2, 1),
            (DAY * 7 + MINUTE * 12, 2, 1),
            (DAY * 7 + MINUTE * 13, 2, 2),
        ] {
            world.go(begin + after);
            if mailed > world.mails() {
                world.expect(world.now(), "copy@example.com: hello", None);
            }
            world.publish(&copy);
            assert_eq!((world.mails(), ended(&world, "duplicate")), (mailed, duplicates), "{place:?} after {after:#}");
        }

        // Too old at its second try: nobody was there for so long.
        let hours_23 = (HOUR * 23).as_millis();
        world.publish(&event("retry", "old", json!(format!("old {hours_23}"))));
        (0..world.processes()).for_each(|index| world.stop(index));
        world.go(world.now() + HOUR * 25);
        (0..world.processes()).for_each(|index| world.start_again(index));
        world.wait("it has expired", |world| ended(world, "expired") == 1);

        world.publish(&event("reject", "rejected", json!("rejected 0")));
        // On Redis the oldest go when the next one comes, or at a scrape.
        let dead = |world: &World| {
            let left = |server: &Server| server.metrics().sum("weir_dead_letters", &[]).min(server.dead().len() as u64);
            world.running().map(left).max()
        };
        for (days, left) in [(29, 1), (2, 0)] {
            world.go(world.now() + DAY * days);
            world.wait("dead letters are kept for thirty days", |world| dead(world) == Some(left));
        }
        world.end();
    }
}

//! Nothing is lost and nothing is sent twice: kills before every call, others before every call, copies at any time.

use serde_json::json;

use super::stage::{End, Job, Stage, at};
use crate::waiting::Timer;

/// A digest of an hour for each owner.
pub(super) const HOURLY: &str = r#"
[[rule]]
name = "answers"
type = "answered"
to   = "data.owner"
when = "digest 1h by data.owner"
[rule.mail.en]
subject = "{{ count }} answers"
text    = "{% for e in events %}[{{ e.event.id }}]{% endfor %}"
"#;

const START: &str = "2026-06-01T10:30:00Z";

fn send(timer: &Timer) -> bool {
    matches!(timer, Timer::Send(_))
}

/// All were mailed once, nothing is dead, and after some days nothing is left in the bucket.
#[track_caller]
fn settled(stage: &Stage, ids: &[&str], what: &str) {
    stage.days(5);
    for id in ids {
        assert_eq!(stage.mailed(id), 1, "{what}: `{id}` in {:?}", stage.mails.borrow());
    }
    assert!(stage.dead.borrow().is_empty(), "{what}: {:?}", stage.dead.borrow());
    let left: Vec<_> = stage.keys.borrow().keys().cloned().collect();
    assert_eq!(left, Vec::<String>::new(), "{what}");
}

#[test]
fn a_window_is_one_mail() {
    let stage = Stage::new(HOURLY, START);
    for id in ["a", "b", "c"] {
        stage.put(stage.event("answered", id, json!({})));
    }
    let mut other = stage.event("answered", "d", json!({ "owner": "bob@example.com" }));
    other.due += 60_000;
    stage.put(other);
    settled(&stage, &["a", "b", "c", "d"], "");
    assert_eq!(stage.times(), ["2026-06-01T11:00:00Z", "2026-06-01T11:00:00Z"]);
    let mails = stage.mails.borrow();
    assert_eq!((mails[0].1.subject.as_str(), mails[0].1.to[0].as_str()), ("3 answers", "ann@example.com"));
    assert_eq!((mails[1].1.subject.as_str(), mails[1].1.to[0].as_str()), ("1 answers", "bob@example.com"));
}

#[test]
fn an_event_killed_before_any_call() {
    for kill in 0.. {
        let stage = Stage::new(HOURLY, START);
        stage.put(stage.event("answered", "b", json!({})));
        let (end, calls) = stage.deliver(&stage.event("answered", "a", json!({})), Some(kill), None);
        settled(&stage, &["a", "b"], &format!("killed before call {kill}"));
        if end != End::Killed {
            assert!(calls > 3, "{calls}");
            break;
        }
    }
}

#[test]
fn an_event_that_comes_again_whenever_it_likes() {
    // Its timer left, its ack did not: now, in the same window, when the digest has left, a day later.
    for wait in [0, 60_000, 1_800_000, 1_800_001, 3_600_000, 86_400_000] {
        let stage = Stage::new(HOURLY, START);
        let event = stage.event("answered", "a", json!({}));
        stage.put(event.clone());
        stage.put(stage.event("answered", "b", json!({})));
        stage.put(Job { due: event.due + wait, attempt: 2, ..event });
        settled(&stage, &["a", "b"], &format!("again after {wait} ms"));
        assert_eq!(stage.mails.borrow().len(), 1, "again after {wait} ms");
    }
}

#[test]
fn a_timer_killed_before_any_call() {
    for kill in 0.. {
        let stage = Stage::new(HOURLY, START);
        for id in ["a", "b"] {
            stage.put(stage.event("answered", id, json!({})));
        }
        stage.until(at("2026-06-01T10:59:59Z"));
        let timer = stage.take_timer(send);
        stage.now.set(timer.due);
        let (end, calls) = stage.deliver(&timer, Some(kill), None);
        settled(&stage, &["a", "b"], &format!("killed before call {kill}"));
        if end != End::Killed {
            assert!(calls > 6, "{calls}");
            break;
        }
    }
}

/// Lets `others` run before each call of the delivery that `stage` makes, on a fresh stage for each, and after the last.
fn before_each_call(name: &str, ids: &[&str], stage: impl Fn() -> (Stage, Job), others: impl Fn(&Stage)) {
    for call in 0.. {
        let (stage, job) = stage();
        stage.now.set(stage.now.get().max(job.due));
        let (_, calls) = stage.deliver(&job, None, Some((call, &|| others(&stage))));
        let last = call >= calls;
        if last {
            others(&stage);
        }
        settled(&stage, ids, &format!("{name} before call {call}"));
        if last {
            break;
        }
    }
}

/// A stage on which these events wait, and the timer that is due.
fn due(ids: &[&str]) -> (Stage, Job) {
    let stage = Stage::new(HOURLY, START);
    ids.iter().for_each(|id| stage.put(stage.event("answered", id, json!({}))));
    stage.until(at("2026-06-01T10:59:59Z"));
    let timer = stage.take_timer(send);
    (stage, timer)
}

#[test]
fn an_event_that_arrives_while_the_timer_runs() {
    // It came before the end of the window, and is handled only now; or it comes now.
    for came in ["2026-06-01T10:59:59.999Z", "2026-06-01T11:00:00.001Z"] {
        let late = |stage: &Stage| {
            let now = stage.now.replace(at(came));
            let late = stage.event("answered", "c", json!({}));
            stage.now.set(now);
            stage.deliver(&late, None, None);
        };
        before_each_call(&format!("come at {came}"), &["a", "b", "c"], || due(&["a", "b"]), late);
    }
}

#[test]
fn an_event_that_began_to_wait_before_the_end_and_goes_on_after_it() {
    // While it runs, the timer of the others sends the window; it runs on with the time at which it began.
    let fresh = || {
        let stage = Stage::new(HOURLY, START);
        stage.put(stage.event("answered", "a", json!({})));
        stage.until(at("2026-06-01T10:59:59Z"));
        let late = stage.event("answered", "b", json!({}));
        (stage, late)
    };
    before_each_call("the whole digest", &["a", "b"], fresh, |stage| stage.until(at("2026-06-01T11:00:30Z")));
}

#[test]
fn a_frozen_event_whose_copy_goes_ahead() {
    let fresh = || {
        let stage = Stage::new(HOURLY, START);
        let event = stage.event("answered", "a", json!({}));
        (stage, event)
    };
    let copy = |stage: &Stage| {
        stage.put(Job { attempt: 2, ..stage.event("answered", "a", json!({})) });
        stage.until(stage.now.get());
    };
    before_each_call("its copy", &["a"], fresh, copy);
    before_each_call("its copy and the digest", &["a"], fresh, |stage| {
        copy(stage);
        stage.until(at("2026-06-01T12:00:00Z"));
    });
}

/// A stage on which `a` waits, and the delivery that gives the digest its timer.
fn arming() -> (Stage, Job) {
    let stage = Stage::new(HOURLY, START);
    stage.deliver(&stage.event("answered", "a", json!({})), None, None);
    let arm = stage.take_timer(|timer| matches!(timer, Timer::Arm(_)));
    (stage, arm)
}

#[test]
fn the_delivery_that_arms_killed_before_any_call() {
    for kill in 0.. {
        let (stage, arm) = arming();
        let (end, calls) = stage.deliver(&arm, Some(kill), None);
        // It relies on what stands in the list.
        stage.deliver(&stage.event("answered", "b", json!({})), None, None);
        settled(&stage, &["a", "b"], &format!("killed before call {kill}"));
        assert_eq!(stage.mails.borrow().len(), 1);
        if end != End::Killed {
            assert!(calls > 3, "{calls}");
            break;
        }
    }
}

#[test]
fn events_and_timers_that_come_while_one_is_armed() {
    let event = |stage: &Stage| {
        stage.deliver(&stage.event("answered", "b", json!({})), None, None);
    };
    before_each_call("an event", &["a", "b"], arming, event);
    before_each_call("an event and all that comes of it", &["a", "b"], arming, |stage| {
        event(stage);
        stage.until(stage.now.get() + 1_000);
    });
    before_each_call("an event and the digest", &["a", "b"], arming, |stage| {
        event(stage);
        stage.until(at("2026-06-01T11:30:00Z"));
    });
}

#[test]
fn a_digest_of_many_has_few_timers() {
    let stage = Stage::new(HOURLY, START);
    for id in 0..50 {
        stage.put(Job { due: stage.now.get() + id, ..stage.event("answered", &format!("e{id}"), json!({})) });
    }
    stage.until(at("2026-06-01T10:59:59Z"));
    let _ = stage.take_timer(send);
    assert_eq!(stage.timers(send), 0);
}

#[test]
fn two_timers_of_a_window_send_once() {
    // Copies of one, as of two events that waited: in two processes, at the same time.
    let two = || due(&["a", "b"]);
    let (_, timer) = two();
    before_each_call("a copy", &["a", "b"], two, |stage| {
        stage.deliver(&timer, None, None);
    });
    // The copy is killed before any of its calls, before any call of the first.
    for kill in 0..20 {
        before_each_call(&format!("a copy killed before {kill}"), &["a", "b"], two, |stage| {
            stage.deliver(&timer, Some(kill), None);
        });
    }
}

#[test]
fn a_killed_timer_and_an_event_that_arrives_meanwhile() {
    for kill in 0..20 {
        let stage_with_kill = || {
            let (stage, timer) = due(&["a", "b"]);
            stage.now.set(timer.due);
            stage.deliver(&timer, Some(kill), None);
            let late = stage.event("answered", "c", json!({}));
            (stage, late)
        };
        // What was begun is finished while the event enters, at any point.
        before_each_call(&format!("after a kill before {kill}: the rest"), &["a", "b", "c"], stage_with_kill, |stage| {
            stage.until(stage.now.get() + 600_000);
        });
    }
}

#[test]
fn an_event_held_up_goes_to_the_open_window_and_stays_there() {
    let stage = Stage::new(HOURLY, "2026-06-03T07:10:00Z");
    for (id, came) in [("a", "2026-06-01T10:30:00Z"), ("b", "2026-06-02T23:30:00Z"), ("c", "2026-06-03T07:05:00Z")] {
        let now = stage.now.replace(at(came));
        let event = stage.event("answered", id, json!({}));
        stage.now.set(now);
        stage.put(event.clone());
        // Again in the next window, and after its digest.
        stage.put(Job { due: at("2026-06-03T08:30:00Z"), attempt: 2, ..event.clone() });
        stage.put(Job { due: at("2026-06-04T08:30:00Z"), attempt: 3, ..event });
    }
    settled(&stage, &["a", "b", "c"], "");
    assert_eq!(stage.times(), ["2026-06-03T08:00:00Z"]);
}

#[test]
fn the_relay_is_away_and_comes_back() {
    let (stage, timer) = due(&["a", "b"]);
    stage.put(timer);
    stage.relay_away.set(true);
    stage.until(at("2026-06-01T11:10:00Z"));
    assert!(stage.mails.borrow().is_empty() && stage.dead.borrow().is_empty());
    stage.put(stage.event("answered", "c", json!({})));
    stage.relay_away.set(false);
    settled(&stage, &["a", "b", "c"], "");
    assert_eq!(stage.mails.borrow().len(), 2);
}

#[test]
fn a_thousand_events_are_cut_and_counted() {
    let stage = Stage::new(HOURLY, START);
    for id in 0..1_100 {
        stage.put(stage.event("answered", &format!("e{id}"), json!({})));
    }
    stage.until(at("2026-06-01T10:59:59Z"));
    assert_eq!(stage.keys.borrow().len(), 101, "a list, and what is shown");
    stage.days(5);
    let mails = stage.mails.borrow();
    assert_eq!((mails.len(), mails[0].1.subject.as_str()), (1, "1100 answers"));
    assert_eq!(mails[0].1.text.as_deref().unwrap().matches('[').count(), 100);
    assert!(stage.keys.borrow().is_empty());
}

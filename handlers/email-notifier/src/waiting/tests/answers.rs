//! `unless`: asked and answered, in any order, as often as they like.

use serde_json::json;

use super::stage::{Job, Stage, What, at};

const REMINDER: &str = r#"
[[rule]]
name   = "reminder"
type   = "asked"
to     = "data.owner"
when   = "after 3d"
unless = "answered"
[rule.mail.en]
subject = "Please answer"
text    = "[{{ event.id }}]"
"#;

const START: &str = "2026-06-01T10:00:00Z";
const DAY: i64 = 86_400_000;

/// An event that happened at one time and comes at another.
fn event(stage: &Stage, kind: &str, id: &str, happened: i64, comes: i64) -> Job {
    let mut job = stage.event(kind, id, json!({}));
    job.due = comes;
    if let What::Event(event, came) = &mut job.what {
        event.time = Some(jiff::Timestamp::from_millisecond(happened).unwrap().to_string());
        *came = comes;
    }
    job
}

#[test]
fn a_reminder_is_sent_unless_an_answer_came() {
    let start = at(START);
    // When asked, when answered, each as (happened, comes), in days; how many reminders.
    for (asked, answered, expected) in [
        ((0, 0), None, 1),
        ((0, 0), Some((1, 1)), 0),
        ((0, 0), Some((0, 0)), 0),
        ((0, 1), Some((1, 0)), 0),
        ((0, 0), Some((4, 4)), 1),
        ((2, 2), Some((1, 1)), 1),
        ((2, 2), Some((1, 4)), 1),
        ((0, 3), Some((1, 1)), 0),
    ] {
        for copies in [1, 2] {
            let stage = Stage::new(REMINDER, START);
            for _ in 0..copies {
                stage.put(event(&stage, "asked", "q", start + asked.0 * DAY, start + asked.1 * DAY));
                if let Some((happened, comes)) = answered {
                    stage.put(event(&stage, "answered", "r", start + happened * DAY, start + comes * DAY));
                }
            }
            stage.days(30);
            assert_eq!(stage.mails.borrow().len(), expected, "asked {asked:?}, answered {answered:?}, {copies} times");
            assert!(stage.dead.borrow().is_empty() && stage.keys.borrow().is_empty(), "{:?}", stage.keys.borrow());
        }
    }
}

#[test]
fn kills_change_nothing() {
    for kill in 0..15 {
        for killed in ["asked", "answered"] {
            for answered in [true, false] {
                let stage = Stage::new(REMINDER, START);
                let job = |kind: &str| stage.event(kind, kind, json!({}));
                for kind in ["asked", "answered"].iter().filter(|kind| answered || **kind == "asked") {
                    let kill = (*kind == killed).then_some(kill);
                    stage.deliver(&job(kind), kill, None);
                    stage.now.set(stage.now.get() + 1_000);
                }
                stage.days(30);
                let expected = usize::from(!answered);
                assert_eq!(stage.mails.borrow().len(), expected, "{killed} killed before {kill}, answered {answered}");
                assert!(stage.keys.borrow().is_empty(), "{:?}", stage.keys.borrow());
            }
        }
    }
}

#[test]
fn answers_without_end_are_forgotten_in_the_end() {
    let stage = Stage::new(REMINDER, START);
    for day in 0..100 {
        stage.put(event(&stage, "answered", &format!("r{day}"), at(START) + day * DAY, at(START) + day * DAY));
    }
    stage.days(99);
    assert_eq!(stage.keys.borrow().len(), 1);
    stage.days(10);
    assert!(stage.keys.borrow().is_empty() && stage.dead.borrow().is_empty());
}

#[test]
fn only_a_later_event_of_the_same_subject_counts() {
    let stage = Stage::new(REMINDER, START);
    stage.put(stage.event("asked", "q", json!({})));
    let mut other = event(&stage, "answered", "r", at(START) + DAY, at(START) + DAY);
    if let What::Event(event, _) = &mut other.what {
        event.subject = Some("q-8".to_owned());
    }
    stage.put(other);
    stage.put(event(&stage, "answered.late", "r", at(START) + DAY, at(START) + DAY));
    stage.days(30);
    assert_eq!(stage.times(), ["2026-06-04T10:00:00Z"]);
}

#[test]
fn the_last_of_several_is_mailed_when_it_is_quiet() {
    let rules = REMINDER.replace("unless = \"answered\"", "unless = [\"as*\", \"answered\"]");
    let stage = Stage::new(&rules, START);
    for (id, wait) in [("a", 0), ("b", DAY), ("c", DAY)] {
        stage.put(event(&stage, "asked", id, at(START) + wait, at(START) + wait));
    }
    stage.days(30);
    assert_eq!(stage.times(), ["2026-06-05T10:00:00Z"], "of two at the same moment one is the last");
}

#[test]
fn a_digest_leaves_out_what_was_answered() {
    let rules = REMINDER
        .replace("after 3d", "digest 1d")
        .replace("[{{ event.id }}]", "{{ count }}{% for e in events %}[{{ e.event.id }}]{% endfor %}");
    let stage = Stage::new(&rules, START);
    for id in ["a", "b"] {
        let mut asked = stage.event("asked", id, json!({}));
        if let What::Event(event, _) = &mut asked.what {
            event.subject = Some(id.to_owned());
        }
        stage.put(asked);
    }
    let mut answered = event(&stage, "answered", "r", at(START) + 1, at(START) + 1);
    if let What::Event(event, _) = &mut answered.what {
        event.subject = Some("a".to_owned());
    }
    stage.put(answered.clone());
    stage.until(at("2026-06-02T01:00:00Z"));
    assert_eq!(stage.text(), "1[b]");
    // All answered: no mail.
    let stage = Stage::new(&rules, START);
    stage.put(event(&stage, "asked", "q", at(START), at(START)));
    stage.put(event(&stage, "answered", "r", at(START) + 1, at(START) + 1));
    stage.days(30);
    assert!(stage.mails.borrow().is_empty() && stage.dead.borrow().is_empty() && stage.keys.borrow().is_empty());
}

#[test]
fn without_a_subject_nothing_can_be_told() {
    let stage = Stage::new(REMINDER, START);
    for kind in ["asked", "answered"] {
        let mut job = stage.event(kind, kind, json!({}));
        if let What::Event(event, _) = &mut job.what {
            event.subject = None;
        }
        stage.put(job);
    }
    stage.days(30);
    let dead = stage.dead.borrow();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].1.starts_with("rule `reminder`: `unless`: the event has no subject"), "{}", dead[0].1);
}

//! When mails leave, over weeks; quiet hours; rules that are edited while something waits.

use serde_json::json;

use super::races::HOURLY;
use super::stage::{Job, Stage, What, at};
use crate::waiting::Timer;

fn rule(keys: &str) -> String {
    format!(
        "[[rule]]\nname = \"r\"\ntype = \"t\"\nto = \"data.owner\"\n{keys}\n[rule.mail.en]\nsubject = \"s\"\ntext = \"[{{{{ event.id }}}}]\"\n"
    )
}

fn gathered(keys: &str) -> String {
    rule(keys).replace("[{{ event.id }}]", "{{ count }}:{% for e in events %}[{{ e.event.id }}]{% endfor %}")
}

/// Puts an event that comes at this time.
fn put(stage: &Stage, id: &str, time: &str) {
    let mut job = stage.event("t", id, json!({ "zone": "America/New_York" }));
    job.due = at(time);
    if let What::Event(_, came) = &mut job.what {
        *came = job.due;
    }
    stage.put(job);
}

#[test]
fn mails_leave_when_their_rule_says() {
    for (keys, comes, leaves) in [
        ("", "2026-06-01T10:00:00Z", "2026-06-01T10:00:00Z"),
        ("when = \"after 10m\"", "2026-06-01T10:00:00Z", "2026-06-01T10:10:00Z"),
        ("when = \"at 09:00 Europe/Berlin\"", "2026-03-28T20:00:00Z", "2026-03-29T07:00:00Z"),
        ("when = \"at 09:00 Europe/Berlin\"", "2026-06-01T07:00:00Z", "2026-06-01T07:00:00Z"),
        ("quiet = \"22:00-08:00 Europe/Berlin\"", "2026-06-01T10:00:00Z", "2026-06-01T10:00:00Z"),
        ("quiet = \"22:00-08:00 Europe/Berlin\"", "2026-03-28T23:00:00Z", "2026-03-29T06:00:00Z"),
        ("quiet = \"22:00-08:00 data.zone or UTC\"", "2026-06-01T03:00:00Z", "2026-06-01T12:00:00Z"),
        ("when = \"after 2h\"\nquiet = \"22:00-08:00 Europe/Berlin\"", "2026-06-01T19:00:00Z", "2026-06-02T06:00:00Z"),
        (
            "when = \"at 23:00 Europe/Berlin\"\nquiet = \"22:00-08:00 Europe/Berlin\"",
            "2026-06-01T19:00:00Z",
            "2026-06-02T06:00:00Z",
        ),
        ("when = \"digest 1h\"\nquiet = \"22:00-08:00 Europe/Berlin\"", "2026-06-01T20:30:00Z", "2026-06-02T06:00:00Z"),
    ] {
        let rules = if keys.contains("digest") { gathered(keys) } else { rule(keys) };
        let stage = Stage::new(&rules, "2026-01-01T00:00:00Z");
        put(&stage, "a", comes);
        stage.days(365);
        assert_eq!(stage.times(), [leaves], "{keys}, at {comes}; dead: {:?}", stage.dead.borrow());
        assert_eq!(stage.mailed("a"), 1);
        assert!(stage.keys.borrow().is_empty(), "{keys}: {:?}", stage.keys.borrow());
    }
}

#[test]
fn the_digests_of_a_night_are_one() {
    let keys = "when = \"digest 1h\"\nquiet = \"22:00-08:00 Europe/Berlin\"";
    let stage = Stage::new(&gathered(keys), "2026-06-01T18:00:00Z");
    for (id, comes) in [
        ("a", "2026-06-01T18:59:59Z"),
        ("b", "2026-06-01T19:00:00Z"),
        ("c", "2026-06-01T22:10:00Z"),
        ("d", "2026-06-02T05:59:59Z"),
        ("e", "2026-06-02T06:00:00Z"),
    ] {
        put(&stage, id, comes);
    }
    stage.days(5);
    assert_eq!(stage.times(), ["2026-06-01T19:00:00Z", "2026-06-02T06:00:00Z", "2026-06-02T07:00:00Z"]);
    let texts: Vec<_> = stage.mails.borrow().iter().map(|(_, mail)| mail.text.clone().unwrap()).collect();
    assert_eq!(texts, ["1:[a]", "3:[b][c][d]", "1:[e]"]);
}

#[test]
fn a_year_of_daily_digests_is_one_mail_a_day() {
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"] {
        let rules = gathered(&format!("when = \"digest at 09:00 {zone}\"\nquiet = \"22:00-08:00 {zone}\""));
        let stage = Stage::new(&rules, "2026-01-01T00:00:00Z");
        let (mut time, mut number) = (at("2026-01-01T00:10:00Z"), 0);
        while time < at("2026-12-31T00:00:00Z") {
            let mut job = stage.event("t", &format!("e{number}"), json!({}));
            job.due = time;
            if let What::Event(_, came) = &mut job.what {
                *came = time;
            }
            stage.put(job);
            time += 7_000_000 + (number % 7) * 1_000_000;
            number += 1;
        }
        stage.days(370);
        for id in 0..number {
            assert_eq!(stage.mailed(&format!("e{id}")), 1, "{zone}: e{id}");
        }
        let days: Vec<_> = stage.mails.borrow().iter().map(|(time, _)| *time).collect();
        let lengths: Vec<_> = days.windows(2).map(|pair| (pair[1] - pair[0]) / 60_000).collect();
        let (normal, others): (Vec<_>, Vec<_>) = lengths.into_iter().partition(|minutes| *minutes == 1_440);
        let change = if zone.starts_with("Australia") { 30 } else { 60 };
        let mut others = others;
        others.sort_unstable();
        assert_eq!(others, [1_440 - change, 1_440 + change], "{zone}");
        assert!(normal.len() > 350 && stage.keys.borrow().is_empty());
    }
}

#[test]
fn a_mail_that_may_have_left_comes_again_under_its_own_id() {
    // The first try was killed after the relay took it; the second is in quiet hours.
    for kill in 0..6 {
        let stage = Stage::new(&rule("quiet = \"22:00-08:00 Europe/Berlin\""), "2026-06-01T19:59:50Z");
        stage.deliver(&stage.event("t", "a", json!({})), Some(kill), None);
        stage.days(5);
        assert_eq!(stage.mailed("a"), 1, "killed before {kill}: {:?}", stage.times());
        let time = stage.times()[0].clone();
        assert!(time == "2026-06-01T19:59:50Z" || time == "2026-06-02T06:00:00Z", "{time}");
    }
    // It waits already, and its timer is on its way.
    let stage = Stage::new(&rule("quiet = \"22:00-08:00 Europe/Berlin\""), "2026-06-01T21:00:00Z");
    let event = stage.event("t", "a", json!({}));
    for (attempt, due) in
        [(1, "2026-06-01T21:00:00Z"), (2, "2026-06-01T21:00:00Z"), (3, "2026-06-02T06:00:00Z"), (4, "2026-06-02T09:00:00Z")]
    {
        stage.put(Job { attempt, due: at(due), ..event.clone() });
    }
    stage.days(5);
    assert_eq!(stage.times(), ["2026-06-02T06:00:00Z"]);
}

#[test]
fn a_timer_that_is_held_up_into_the_night_waits_for_the_morning() {
    for kill in 0..12 {
        let stage = Stage::new(&gathered("when = \"digest 1h\"\nquiet = \"22:00-08:00 Europe/Berlin\""), "2026-06-01T18:30:00Z");
        stage.put(stage.event("t", "a", json!({})));
        stage.until(at("2026-06-01T18:59:00Z"));
        let timer = stage.take_timer(|timer| matches!(timer, Timer::Send(_)));
        stage.now.set(timer.due);
        stage.deliver(&timer, Some(kill), None);
        // Nobody runs for two hours.
        stage.now.set(at("2026-06-01T21:00:00Z"));
        stage.days(5);
        assert_eq!(stage.mailed("a"), 1, "killed before {kill}");
        let time = stage.times()[0].clone();
        assert!(time == "2026-06-01T19:00:00Z" || time == "2026-06-02T06:00:00Z", "{time}");
    }
}

#[test]
fn what_waits_is_mailed_by_the_rule_as_it_is_then() {
    let edits = [
        (rule("when = \"after 2h\""), rule("when = \"after 5h\""), vec!["2026-06-01T12:00:00Z"]),
        (rule("when = \"after 2h\""), rule(""), vec!["2026-06-01T12:00:00Z"]),
        (rule("when = \"after 2h\""), gathered("when = \"digest 1h\""), vec!["2026-06-01T12:00:00Z"; 2]),
        (gathered("when = \"digest 1d\""), gathered("when = \"digest 1h\""), vec!["2026-06-02T00:00:00Z"]),
        (gathered("when = \"digest 1d\""), rule(""), vec!["2026-06-02T00:00:00Z"; 2]),
        (rule("when = \"after 2h\""), rule("quiet = \"12:00-15:00 UTC\""), vec!["2026-06-01T15:00:00Z"]),
    ];
    for (before, after, expected) in edits {
        let stage = Stage::new(&before, "2026-06-01T10:00:00Z");
        put(&stage, "a", "2026-06-01T10:00:00Z");
        if expected.len() > 1 {
            put(&stage, "b", "2026-06-01T10:00:00Z");
        }
        stage.until(at("2026-06-01T10:30:00Z"));
        stage.rules.replace(after.clone());
        stage.days(5);
        assert_eq!(stage.times(), expected, "{before} -> {after}: {:?}", stage.dead.borrow());
        assert_eq!((stage.mailed("a"), stage.mailed("b")), (1, expected.len() - 1));
        assert!(stage.keys.borrow().is_empty());
    }
}

#[test]
fn what_waits_for_a_rule_that_is_gone_is_a_dead_letter_until_it_is_back() {
    let stage = Stage::new(&gathered("when = \"digest 1h\""), "2026-06-01T10:00:00Z");
    put(&stage, "a", "2026-06-01T10:00:00Z");
    put(&stage, "b", "2026-06-01T10:00:01Z");
    stage.until(at("2026-06-01T10:30:00Z"));
    stage.rules.replace(HOURLY.to_owned());
    stage.days(10);
    let dead = stage.dead.take();
    assert_eq!(dead.len(), 1, "{dead:?}");
    let said = "rule `r` is not in the rules any more, and 2 wait for it (put it back and replay this dead letter, or drop it)";
    assert_eq!(dead[0].1, said);
    assert_eq!(stage.mails.borrow().len(), 0);
    // Replayed.
    stage.rules.replace(gathered("when = \"digest 1h\""));
    for (job, _) in dead {
        stage.put(Job { due: stage.now.get(), attempt: 1, ..job });
    }
    stage.days(8);
    assert_eq!(stage.text(), "2:[a][b]");
    assert!(stage.keys.borrow().is_empty());
    // Nobody puts it back.
    stage.rules.replace(gathered("when = \"digest 1h\""));
    put(&stage, "c", "2026-06-20T10:00:00Z");
    stage.until(at("2026-06-20T10:30:00Z"));
    stage.rules.replace(HOURLY.to_owned());
    stage.days(30);
    assert!(!stage.keys.borrow().is_empty());
    stage.days(30);
    assert!(stage.keys.borrow().is_empty(), "what was never sent is forgotten in the end");
}

#[test]
fn an_event_that_one_rule_rejects_waits_for_none() {
    let broken = rule("").replace("[{{ event.id }}]", "{{ data.gone }}").replace("\"r\"", "\"broken\"");
    let stage = Stage::new(&format!("{broken}{}", gathered("when = \"digest 1h\"")), "2026-06-01T10:00:00Z");
    put(&stage, "a", "2026-06-01T10:00:00Z");
    stage.days(5);
    let dead = stage.dead.take();
    assert_eq!(dead[0].1, "rule `broken`: `mail.en.text` line 1: `data.gone` is missing");
    assert!(stage.mails.borrow().is_empty() && stage.keys.borrow().is_empty());
    stage.rules.replace(gathered("when = \"digest 1h\""));
    stage.put(Job { due: stage.now.get(), attempt: 1, ..dead[0].0.clone() });
    stage.days(5);
    assert_eq!(stage.text(), "1:[a]");
}

#[test]
fn recipients_are_those_of_when_it_came_and_apart() {
    let keys = "when = \"digest 1h by data.team?\"\nseparate = true";
    let stage = Stage::new(&gathered(keys), "2026-06-01T10:00:00Z");
    for (id, owner, team) in [
        ("a", json!(["ann@example.com", "bob@example.com"]), json!("x")),
        ("b", json!(["Ann@example.com"]), json!("x")),
        ("c", json!("ann@example.com"), json!("y")),
        ("d", json!("ann@example.com"), json!(null)),
    ] {
        stage.put(stage.event("t", id, json!({ "owner": owner, "team": team })));
    }
    stage.until(at("2026-06-01T10:30:00Z"));
    stage.rules.replace(gathered(keys).replace("to = \"data.owner\"", "to = \"eve@example.com\""));
    stage.days(5);
    let mut mails: Vec<_> =
        stage.mails.borrow().iter().map(|(_, mail)| (mail.to.join(","), mail.text.clone().unwrap())).collect();
    mails.sort();
    let expected = [
        ("Ann@example.com", "2:[a][b]"),
        ("ann@example.com", "1:[c]"),
        ("ann@example.com", "1:[d]"),
        ("bob@example.com", "1:[a]"),
    ];
    assert_eq!(mails.iter().map(|(to, text)| (to.as_str(), text.as_str())).collect::<Vec<_>>(), expected);
}

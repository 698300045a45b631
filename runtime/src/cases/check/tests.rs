//! What is otherwise than expected, of runs that are made up.

use super::*;
use crate::cases::course::Run;

fn run(outcome: &'static str) -> Run {
    Run { outcome, fuel: 100, ..Run::nothing() }
}

fn keys(expect: &Expect, runs: &[Run]) -> Vec<String> {
    differences(expect, runs, &Held::new()).into_iter().map(|difference| difference.at).collect()
}

#[test]
fn outcomes_are_of_every_run() {
    let name = |name: &str| name.to_owned();
    let (none, done, mixed) = (vec![], vec![run("done"), run("done")], vec![run("done"), run("reject")]);
    for (expected, runs, fits) in [
        (Outcomes::Done, &none, true),
        (Outcomes::Done, &done, true),
        (Outcomes::Done, &mixed, false),
        (Outcomes::All(name("done")), &none, false),
        (Outcomes::All(name("done")), &done, true),
        (Outcomes::All(name("reject")), &mixed, false),
        (Outcomes::Each(vec![]), &none, true),
        (Outcomes::Each(vec![]), &done, false),
        (Outcomes::Each(vec![name("done"), name("reject")]), &mixed, true),
        (Outcomes::Each(vec![name("done")]), &mixed, false),
    ] {
        let found = keys(&Expect { outcome: expected.clone(), ..Expect::default() }, runs);
        assert_eq!(found.is_empty(), fits, "{expected:?} {found:?}");
    }
}

#[test]
fn values_are_compared_as_json_is() {
    for (expected, found, equal, within) in [
        (json!(1), json!(1.0), true, true),
        (json!({"a": [1, {"b": 2}]}), json!({"a": [1.0, {"b": 2}]}), true, true),
        (json!({"a": 1}), json!({"a": 1, "b": 2}), false, true),
        (json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": 2}}), false, true),
        (json!([1]), json!([1, 2]), false, false),
        (json!({"a": 1}), json!({"b": 1}), false, false),
        (json!("1"), json!(1), false, false),
    ] {
        assert_eq!((is(&expected, &found), has(&expected, &found)), (equal, within), "{expected} {found}");
    }
}

#[test]
fn things_are_expected_in_order_and_no_other() {
    let subject = |subject: &str| {
        vec![Check { key: "subject".to_owned(), of: "subject", test: Test::Is(Json::String(subject.to_owned())) }]
    };
    let found = [json!({"subject": "a", "to": ["x"]}), json!({"subject": "b", "to": ["y"]})];
    let at = |expected: &Things| -> Vec<String> {
        things("email", expected, &found, said_mail).into_iter().map(|difference| difference.at).collect()
    };
    assert!(at(&Things::Any).is_empty());
    assert!(at(&Things::These(vec![subject("a"), vec![]])).is_empty());
    assert_eq!(at(&Things::default()), ["email[0]", "email[1]"]);
    assert_eq!(at(&Things::These(vec![subject("b"), subject("b"), subject("c")])), ["email[0].subject", "email[2]"]);
}

#[test]
fn a_bucket_holds_texts_or_json() {
    let held = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), br#"{"x": [1]}"#.to_vec())]);
    let held = Held::from([("digest".to_owned(), Ok(held)), ("other".to_owned(), Err("it is not granted".to_owned()))]);
    for (bucket, test, fits) in [
        ("digest", Test::Is(json!({"a": "1", "b": {"x": [1]}})), true),
        ("digest", Test::Is(json!({"a": 1, "b": {"x": [1]}})), true),
        ("digest", Test::Is(json!({"a": "1"})), false),
        ("digest", Test::Has(json!({"a": "1"})), true),
        ("digest", Test::Has(json!({"c": "1"})), false),
        ("other", Test::Is(json!({})), false),
    ] {
        let expect = Expect { buckets: vec![(bucket.to_owned(), test.clone())], ..Expect::default() };
        let found = differences(&expect, &[], &held);
        assert_eq!(found.is_empty(), fits, "{test:?}: {found:?}");
    }
}

#[test]
fn limits_waits_and_fuel() {
    let limited = Run { limit: Some(crate::outcome::Limit { name: "fuel", value: 5 }), ..run("done") };
    let expect = |limit: Option<&str>, below| Expect { limit: limit.map(str::to_owned), fuel_below: below, ..Expect::default() };
    assert!(keys(&expect(Some("fuel"), Some(101)), std::slice::from_ref(&limited)).is_empty());
    assert_eq!(keys(&expect(Some("memory"), Some(100)), &[limited]), ["limit", "fuel-below"]);
    let after = Expect {
        outcome: Outcomes::All("retry".to_owned()),
        retry_after: Some(std::time::Duration::from_secs(60)),
        ..Expect::default()
    };
    let asked = |seconds| Run { retry_after: Some(std::time::Duration::from_secs(seconds)), ..run("retry") };
    assert!(keys(&after, &[asked(60)]).is_empty());
    assert_eq!(keys(&after, &[asked(61)]), ["retry.after"]);
    assert_eq!(keys(&after, &[run("retry")]), ["retry.after"]);
}

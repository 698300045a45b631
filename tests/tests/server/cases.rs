//! `weir test`: what passes, what fails and how that reads, and a clock that goes by the case.

use std::process::Command;

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::Site;

use crate::one_handler;

const GRANTS: &str =
    "[grants]\nemail = { from = \"QA <qa@example.com>\", to = [\"*@example.com\"] }\npublish = [\"self\", \"told\"]\n";

/// The handler's own file, with its grants and these cases.
fn site(cases: &str) -> Site {
    let site = Site::new("");
    std::fs::remove_file(site.path("weir.toml")).unwrap();
    site.write("timers.test.toml", format!("component = {:?}\n{GRANTS}{cases}", guests::CASE_TIMERS).as_bytes());
    site
}

/// Runs all cases and answers what each failed at.
fn failed_at(cases: &str, code: i32) -> Vec<(String, Vec<String>)> {
    let report = site(cases).run(&["test", "--json"]).ending(code).json();
    let case = |case: &Value| {
        let keys =
            case["differences"].as_array().unwrap().iter().map(|difference| difference["key"].as_str().unwrap().to_owned());
        (case["name"].as_str().unwrap().to_owned(), keys.collect())
    };
    report["files"][0]["cases"].as_array().unwrap().iter().map(case).collect()
}

/// Every case has to pass; what did not is shown.
#[track_caller]
fn pass(cases: &str) {
    let ran = site(cases).run(&["test"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn what_a_handler_left_for_later_comes_in_time() {
    pass(
        r#"
[[case]]
name = "a reminder is mailed after ten minutes"
now  = "2026-03-29T00:30:00Z"
[[case.events]]
type   = "remember"
data   = "ann@example.com"
expect = { published = [{ queue = "self", type = "due", data = "ann@example.com", after = "10m", at = "2026-03-29T00:40:00Z" }], log-contains = "remember at 1774744200000, attempt 1, first seen 1774744200000" }
[[case.events]]
until  = "2026-03-29T00:39:59.999Z"
expect = { outcome = [] }
[[case.events]]
advance = "1ms"
expect  = { outcome = "done", email = [{ to = "ann@example.com", from = "qa@example.com", text = "hello\nthere\n" }], log-contains = "due at 1774744800000" }
[[case.events]]
advance = "10d"
expect  = { outcome = [] }

[[case]]
name   = "timers run in the order of their times, before the event that comes after them"
now    = 2026-03-29T00:30:00Z
events = [
    { type = "remember", data = "ann@example.com" },
    { type = "remember", data = "bob@example.com", at = "2026-03-29T01:31:00+01:00" },
    { type = "due", data = "cy@example.com", at = 2026-03-29T00:41:00Z },
]
[case.expect]
outcome   = ["done", "done", "done", "done", "done"]
email     = [{ to = ["ann@example.com"] }, { to = ["bob@example.com"] }, { to = ["cy@example.com"] }]
published = "any"
log-contains = ["due at 1774744800000", "due at 1774744860000, attempt 1, first seen 1774744260000"]

[[case]]
name   = "a handler that asks for another try gets it"
events = [
    { type = "again", expect = { outcome = "retry", reason = "not yet", retry.after = "1m" } },
    { advance = "59s", expect = { outcome = [] } },
    { advance = "1s", expect = { outcome = ["retry"], log-contains = "attempt 2" } },
    { advance = "1h", expect = { outcome = "done", log-contains = "attempt 3" } },
]

[[case]]
name   = "what is published to a queue has left"
now    = "2026-03-29T00:30:00Z"
events = [{ type = "tell", data = { a = 1.50, b = { c = [true], d = "e" } } }, { advance = "1d" }]
expect = { published = [{ queue = "told", type = "news", source = "weir:handler/case-timers", data-contains = { b = { c = [true] } }, after = "1s", extensions = { weirhops = "1" } }], fuel-below = 1_000_000 }

[[case]]
name   = "what can't be done is rejected"
event  = { type = "other", id = "7", source = "/shop", time = 2026-01-01T00:00:00Z, extra = 5 }
expect = { outcome = "reject", reason-contains = ["`other`", "not known"], reason-lacks = "mail" }

[[case]]
name   = "a loop ends as the server ends it"
event  = { type = "spin" }
expect = { outcome = ["done", "done", "done", "done", "done", "done", "done", "done", "done", "done", "done", "done", "done", "done", "done", "done", "done", "loop"], published = "any" }
"#,
    );
}

/// The guest is made for cases: see the test above for all that it does.
#[test]
pub(crate) fn case_timers() {
    let failed = failed_at(
        r#"
[[case]]
name  = "extra mail"
event = { type = "due", data = "ann@example.com" }
[[case]]
name  = "extra event"
event = { type = "tell", data = 1 }
[[case]]
name   = "missing ones"
event  = { type = "again" }
expect = { outcome = "done", email = [{ to = "ann@example.com" }], published = [{}], retry.after = "2m", limit = "fuel", fuel-below = 10, log-contains = "x" }
[[case]]
name   = "everything is otherwise"
event  = { type = "tell", data = 1 }
expect = { published = [{ queue = "self", type = "olds", data = 2, after = "2s", at = "2026-03-29T00:30:00Z", subject = "x", extensions = { a = "b" } }] }
[[case]]
name   = "by the step"
events = [{ type = "due", data = "ann@example.com", expect = { email = "any" } }, { type = "due", data = "bob@example.com" }]
expect = { email = [{ to = ["ann@example.com"], subject-lacks = "ell" }] }
[[case]]
name   = "good"
event  = { type = "due", data = "ann@example.com" }
expect = { email = [{}] }
"#,
        1,
    );
    let failed: Vec<(&str, String)> = failed.iter().map(|(name, keys)| (name.as_str(), keys.join(" "))).collect();
    let expected = [
        ("extra mail", "email[0]"),
        ("extra event", "published[0]"),
        ("missing ones", "outcome log-contains limit retry.after fuel-below email[0] published[0]"),
        (
            "everything is otherwise",
            "published[0].queue published[0].type published[0].subject published[0].data published[0].extensions \
             published[0].after published[0].at",
        ),
        ("by the step", "email[0].to email[0].subject-lacks"),
        ("good", ""),
    ];
    assert_eq!(failed, expected.map(|(name, keys)| (name, keys.to_owned())));
}

/// Two cases, one of which fails.
const FAILING: &str = r#"
[[case]]
name = "good"
event = { type = "due", data = "ann@example.com" }
expect = { email = [{}] }
[[case]]
name = "a <b> & c"
event = { type = "due", data = "ann@example.com" }
expect = { email = [{ to = "bob@example.com", text = "hello\nyou\n" }] }
"#;

#[test]
fn a_difference_is_shown_line_by_line() {
    let site = site(FAILING);
    let ran = site.run(&["test", "timers.test.toml"]).ending(1);
    let shown: Vec<&str> = ran.stdout.lines().collect();
    let expected = [
        "timers.test.toml (case-timers)",
        "  ok    good",
        "  FAIL  a <b> & c  (timers.test.toml:10)",
        "        email[0].to",
        "          - [\"bob@example.com\"]",
        "          + [\"ann@example.com\"]",
        "        email[0].text",
        "            hello",
        "          - you",
        "          + there",
        "        log",
    ];
    assert_eq!(shown.get(..expected.len()), Some(&expected[..]), "{ran:?}");
    assert!(shown.last().unwrap().starts_with("1 passed, 1 failed ("), "{ran:?}");
    assert_eq!(site.run(&["test", ".", "--filter", "goo"]).ending(0).stdout.lines().count(), 3);
    assert!(!site.path(".weir").exists() && !site.path("outbox").exists(), "nothing is made");
}

#[test]
fn a_ci_system_reads_the_result() {
    let site = site(FAILING);
    site.write("x/broken.test.toml", b"handler = 7\n");
    let _ = site.run(&["test", "--junit", "junit.xml"]).ending(2);
    // A parser that knows nothing of Weir.
    let script = "import sys, json, xml.etree.ElementTree as e\nr = e.parse(sys.argv[1]).getroot()\n\
        print(json.dumps([r.attrib, [[s.attrib['name'], [[c.attrib['name'], [[k.tag, k.text] for k in c]] for c in s]] for s in r]]))";
    let parsed = Command::new("python3").args(["-c", script]).arg(site.path("junit.xml")).output().unwrap();
    let parsed: Value = serde_json::from_slice(&parsed.stdout).unwrap();
    let counts = ["tests", "failures", "errors"].map(|name| parsed[0][name].as_str().unwrap());
    assert_eq!(counts, ["3", "1", "1"]);
    let suites = &parsed[1];
    assert_eq!((&suites[0][0], &suites[0][1][0]), (&json!("timers.test.toml"), &json!(["good", []])));
    let failed = &suites[0][1][1];
    assert_eq!((&failed[0], &failed[1][0][0]), (&json!("a <b> & c"), &json!("failure")));
    assert!(failed[1][0][1].as_str().unwrap().contains("- you\n  + there\n"), "{failed}");
    assert_eq!((&suites[1][0], &suites[1][1][0][1][0][0]), (&json!("x/broken.test.toml"), &json!("error")), "{suites}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let site = site("[[case]]\nname = \"a\"\nevent = { type = \"due\", data = 1 }\nexpect = { emial = [] }\n");
    let ran = site.run(&["test"]).ending(2);
    for part in ["`case.expect.emial` is not a known key", "timers.test.toml:8:", "did you mean `email`?"] {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
    let report = site.run(&["test", "--json"]).ending(2).json();
    let problem = &report["files"][0]["problems"][0];
    assert_eq!((&problem["line"], &problem["key"], &report["wrong"]), (&json!(8), &json!("case.expect.emial"), &json!(1)));
    // The others run all the same.
    let good = "[[case]]\nname = \"g\"\nevent.type = \"again\"\nexpect.outcome = \"retry\"\n";
    let good = format!("component = {:?}\n{GRANTS}{good}", guests::CASE_TIMERS);
    site.write("good.test.toml", good.as_bytes());
    for (file, expected) in [
        ("component = \"no.wasm\"\n", "no.wasm: can't be read"),
        ("component = \"no.wasm\"\nhandler = \"it\"\n", "two subjects"),
        ("handler = \"it\"\n", "there is no weir.toml in its folder or above"),
        ("", "`handler` is missing"),
    ] {
        site.write("timers.test.toml", format!("{file}[[case]]\nname = \"a\"\nevent.type = \"x\"\n").as_bytes());
        let ran = site.run(&["test"]).ending(2);
        assert!(ran.stderr.contains(expected) && ran.stderr.contains("timers.test.toml"), "{expected}: {ran:?}");
        assert!(ran.stdout.contains("ok    g"), "{ran:?}");
    }
    for (args, expected) in [
        (&["test", "nowhere"][..], "`nowhere` does not exist"),
        (&["test", "--filter", "zzz", "good.test.toml"], "no case below `good.test.toml` has `zzz`"),
    ] {
        let ran = site.run(args).ending(2);
        assert!(ran.stderr.contains(expected) && ran.stdout.is_empty(), "{ran:?}");
    }
}

#[test]
fn a_handler_of_weir_toml_is_tested_as_it_is_configured() {
    let more = "filter = \"subject = 'mine'\"\nexpires = \"1h\"\n[handler.it.config]\nthen = \"reject\"\n[handler.it.grants]\npublish = [\"events\"]\n";
    let site = Site::new(&one_handler("disk:./data/events", guests::PUBLISH_THEN, more));
    let cases = r#"
handler = "it"
[[case]]
name   = "as it is configured"
event  = { type = "x", subject = "mine" }
expect = { outcome = "reject", reason = "no" }
[[case]]
name   = "with another value"
config = { then = "ok" }
event  = { type = "x", subject = "mine" }
expect = { published = [{ queue = "events" }] }
[[case]]
name   = "what its filter leaves out"
event  = { type = "x", subject = "yours" }
expect = { outcome = "filtered" }
[[case]]
name   = "it is tried again until its tries are used up"
config = { then = "retry" }
events = [{ type = "x", subject = "mine", expect = { outcome = "retry" } }, { advance = "2h" }]
expect = { outcome = ["retry", "retry", "retry", "retry", "retry", "retry", "retry"] }
"#;
    site.write("deep/down/it.test.toml", cases.as_bytes());
    let _ = site.run(&["test"]).ending(0);
    let _ = site.run(&["test", "deep", "--set", "handler.it.config.then=ok"]).ending(1);
    site.write("deep/down/it.test.toml", cases.replace("\"it\"", "\"other\"").as_bytes());
    let ran = site.run(&["test"]).ending(2);
    assert!(ran.stderr.contains("handler `other` is not defined") && ran.stderr.contains("known: `it`"), "{ran:?}");
    assert!(!site.path("data").exists() && !site.path(".weir").exists(), "nothing is made");
}

#[test]
fn buckets_last_over_the_events_of_a_case() {
    let site = Site::new("");
    let cases = r#"
[grants]
keyvalue = [{ bucket = "b" }]

[[case]]
name   = "over its events"
events = [{ type = "x", id = "a", expect = { keyvalue.b = { a = "seen", n = 1 } } }, { type = "x", id = "b" }]
expect = { keyvalue.b = { a = "seen", b = "seen", n = "2" } }

[[case]]
name   = "and no longer"
event  = { type = "x", id = "c" }
expect = { keyvalue-contains.b = { n = 1 } }
"#;
    let file = |more: &str| {
        let text = format!("component = {:?}\n{cases}{more}", guests::SERVER_KEYVALUE);
        site.write("b.test.toml", text.as_bytes());
    };
    file("");
    let ran = site.run(&["test"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    file("\n[[case]]\nname = \"z\"\nevent = { type = \"x\", id = \"c\" }\nexpect.keyvalue = { b = { n = 1 }, other = {} }\n");
    let shown = site.run(&["test", "--filter", "z"]).ending(1).stdout;
    for line in ["keyvalue.b\n", "  +   \"c\": \"seen\"", "keyvalue.other\n", "  + it is not granted\n"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

#[test]
fn requests_are_answered_by_the_case() {
    let site = Site::new("");
    let cases = r#"
[grants]
http = [{ url = "https://api.example.com/v1/*", methods = ["POST"] }]
[config]
method = "POST"
url    = "https://api.example.com/v1/a https://api.example.com/v1/b"
body   = "{\"n\": 1}"

[[case]]
name   = "in turn"
http   = [{ status = 201, body = "made" }, { status = 503, headers = { retry-after = "7" }, body = { error = "later" } }]
event  = { type = "x" }
expect = { http = [{ method = "POST", url = "https://api.example.com/v1/a", json = { n = 1 }, headers = { x-of-guest = "yes" } }, { url-contains = "/b", body-contains = "1" }], log-contains = ["status: 201, 4 bytes: made", "status: 503", "later"] }

[[case]]
name   = "none without answers"
event  = { type = "x" }
expect = { log-contains = ["the case has no `http`", "error: "] }

[[case]]
name   = "not expected"
http   = [{}]
event  = { type = "x" }
expect = { http = [{ method = "GET" }] }
"#;
    site.write("h.test.toml", format!("component = {:?}\n{cases}", guests::HTTP_ASK).as_bytes());
    let ran = site.run(&["test"]).ending(1);
    let failed = "  FAIL  not expected  (h.test.toml:21)\n        http[0].method\n          - GET\n          + POST\n        http[1]\n          - none\n";
    assert!(ran.stdout.contains("  ok    in turn\n  ok    none without answers\n") && ran.stdout.contains(failed), "{ran:?}");
}

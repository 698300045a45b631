//! What a file of cases says, and what is wrong with one.

use std::path::{Path, PathBuf};

use super::super::{Problems, Surroundings};
use super::file::read_text;
use super::*;

fn read(text: &str) -> Result<CaseFile, Problems> {
    let surroundings = Surroundings { env: &|_| None, folder: PathBuf::from("/site"), cores: 1 };
    read_text(text, Path::new("x.test.toml"), &surroundings)
}

/// The only case of a file about a handler.
fn case(text: &str) -> Case {
    let mut read = read(&format!("handler = \"it\"\n[[case]]\nname = \"a\"\n{text}")).unwrap();
    assert_eq!(read.cases.len(), 1);
    read.cases.remove(0)
}

#[test]
fn an_event_is_its_attributes() {
    let case = case(
        "event = { type = \"a.b\", id = \"7\", subject = \"${s}\", time = 2026-01-01T01:00:00+01:00, tenant = 5, vip = true, \
         data = { n = 1.50, big = 1e30, at = 2026-01-01, list = [1, \"$${x}\"], none = {} } }",
    );
    let event = case.steps[0].event.clone().unwrap();
    assert_eq!((event.id.as_str(), event.kind.as_str(), event.source.as_str()), ("7", "a.b", "/weir/test"));
    assert_eq!((event.subject.as_deref(), event.time.as_deref()), (Some("${s}"), Some("2026-01-01T01:00:00+01:00")));
    assert_eq!((event.extension("tenant"), event.extension("vip")), (Some("5"), Some("true")));
    let data = std::str::from_utf8(event.data.as_deref().unwrap()).unwrap();
    assert_eq!(data, r#"{"at":"2026-01-01","big":1e+30,"list":[1,"$${x}"],"n":1.5,"none":{}}"#);
    assert_eq!((case.line, case.now, case.expect.is_none()), (2, None, true));
}

#[test]
fn data_of_another_type_is_a_text() {
    let text = |event: &str| case(event).steps[0].event.clone().unwrap().data.clone().unwrap();
    assert_eq!(text("event = { type = \"a\", data = \"x\" }"), "\"x\"");
    assert_eq!(text("event = { type = \"a\", data = \"x\", datacontenttype = \"text/plain\" }"), "x");
}

#[test]
fn a_clock_goes_on_from_step_to_step() {
    let several = case(
        "events = [{ type = \"a\", at = \"2026-03-29T00:30:00Z\" }, { advance = \"1h\" }, { until = 2026-03-29 02:00:00Z }, \
         { event = { type = \"b\" }, advance = \"1s\", expect = { outcome = [] } }]",
    );
    assert_eq!(several.now.unwrap().to_string(), "2026-03-29T00:30:00.000Z");
    let clocks: Vec<Clock> = several.steps.iter().map(|step| step.clock).collect();
    let time = |text: &str| Clock::To(Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond().cast_unsigned()));
    let by = |seconds| Clock::By(Duration::from_secs(seconds));
    assert_eq!(clocks, [time("2026-03-29T00:30:00Z"), by(3600), time("2026-03-29T02:00:00Z"), by(1)]);
    assert!(several.steps[1].event.is_none() && several.steps[3].event.is_some());
    assert_eq!(several.steps[3].expect.as_ref().unwrap().outcome, Outcomes::Each(Vec::new()));
}

#[test]
fn a_component_has_a_queue_and_a_relay_without_saying_so() {
    let text = "component = \"out/my_own.wasm\"\n[grants]\nemail = { from = \"a@b.example\", to = [\"*\"] }\npublish = [\"x\", \"self\"]\n\
        [[case]]\nname = \"a\"\nevent.type = \"x\"\n";
    let Subject::Component { name, config } = read(text).unwrap().subject else { panic!("a component") };
    assert_eq!((name.as_str(), config.component), ("my-own", PathBuf::from("/site/out/my_own.wasm")));
    let publish = config.grants.publish.unwrap();
    assert_eq!((config.queues, publish.queues, publish.own), (vec!["events".to_owned()], vec!["x".to_owned()], true));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, line, expected) in [
        ("", 3, "`case.event` is missing"),
        ("event = {}", 4, "`case.event.type` is missing"),
        ("event = { type = \"a\", \"x-y\" = 1 }", 4, "no attribute name"),
        ("event = { type = \"a\", weirhops = 1 }", 4, "Weir's own"),
        ("event = { type = \"a\", x = [1] }", 4, "is not an attribute"),
        ("event = \"nowhere.json\"", 4, "the file can't be used"),
        ("event.type = \"a\"\nevents = []", 4, "stand in one case"),
        ("events = []", 4, "is not a list of steps"),
        ("now = \"2026-03-29\"\nevent.type = \"a\"", 4, "is not a time"),
        ("now = 2026-03-29T10:00:00\nevent.type = \"a\"", 4, "is not a time"),
        ("now = 2026-03-29T10:00:00Z\nevents = [{ until = 2026-03-29T09:00:00Z }]", 5, "goes back"),
        ("events = [{ at = 2026-03-29T09:00:00Z }]", 4, "there is none"),
        ("events = [{ type = \"a\", until = 2026-03-29T09:00:00Z }]", 4, "without an event"),
        ("events = [{ type = \"a\", at = 2026-03-29T09:00:00Z, advance = \"1h\" }]", 4, "in one step"),
        ("events = [{ advance = \"1w\" }]", 4, "is not a duration"),
        ("event.type = \"a\"\nexpect.outcome = \"ok\"", 5, "is no outcome"),
        ("event.type = \"a\"\nexpect.email = [{ too = \"x\" }]", 5, "`case.expect.email.too` is not a known key"),
        ("event.type = \"a\"\nexpect.email = \"none\"", 5, "is not a list of tables"),
        ("event.type = \"a\"\nexpect.fuel-below = \"5\"", 5, "is not a number"),
        ("event.type = \"a\"\nexpect.keyvalue.digest = 1", 5, "is not a table"),
        ("event.type = \"a\"\nevnet = 1", 5, "`case.evnet` is not a known key"),
        ("event.type = \"a\"\n[[case]]\nname = \"a\"\nevent.type = \"b\"", 6, "another case has this name, in line 3"),
    ] {
        let problems =
            read(&format!("handler = \"it\"\n\n[[case]]\n{text}\n").replacen("[[case]]\n", "[[case]]\nname = \"a\"\n", 1));
        let problems = problems.map(|_| text).unwrap_err();
        let told: Vec<_> = problems.iter().map(|problem| (problem.line.unwrap_or_default(), problem.message.as_str())).collect();
        // The name takes a line of its own.
        let at = if line == 3 { 3 } else { line + 1 };
        assert!(told.len() == 1 && told[0].0 == at && told[0].1.contains(expected), "{text}: {told:?}, not {at} {expected}");
        assert!(problems.to_string().ends_with("1 error in the test file"), "{problems}");
    }
    for (text, expected) in [
        ("handler = \"it\"\n", "`case` is missing"),
        ("[[case]]\nname = \"a\"\nevent.type = \"x\"\n", "`handler` is missing"),
        ("handler = \"it\"\nconfg = {}\n[[case]]\nname = \"a\"\nevent.type = \"x\"\n", "`confg` is not a known key"),
        ("handler = \"it\"\n[grants]\n[[case]]\nname = \"a\"\nevent.type = \"x\"\n", "`grants` is not a known key"),
        ("handler = \"it\"\n[[case]]\nname = \" \"\nevent.type = \"x\"\n", "`case.name` is not a text"),
    ] {
        let problems = read(text).map(|_| text).unwrap_err();
        assert!(problems.iter().any(|problem| problem.message.contains(expected)), "{text}: {problems}");
    }
}

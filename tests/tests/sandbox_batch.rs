//! Batch handlers: what they are given, what each answer comes to, what a call may use, and to whom an effect belongs. What is done when a
//! call fails is shown over the whole server.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use weir_runtime::event::Event;
use weir_runtime::outcome::Outcome;
use weir_runtime::sandbox::Batch;
use weir_tests::assert_test_exists;
use weir_tests::guests::rig::{RUNS, Rig, Settings, event, nobody};
use weir_tests::guests::*;

weir_tests::foreach_batch!(assert_test_exists);

/// An event of each of these data, with its place as id.
fn events(says: &[&str]) -> Vec<Event> {
    let event = |(at, says): (usize, &&str)| Event { id: format!("e{at}"), data: Some(format!("\"{says}\"").into()), ..event() };
    says.iter().enumerate().map(event).collect()
}

fn run(guest: &str, settings: &Settings, says: &[&str]) -> Batch {
    let rig = Rig::new();
    rig.run_batch(&rig.load(guest, settings).unwrap(), events(says))
}

/// What each item came to: its outcome with its reason, but `done`.
fn outcomes(batch: &Batch) -> Vec<String> {
    let shown = |outcome: &Outcome| match outcome {
        Outcome::Done => "done".to_owned(),
        outcome => format!("{}: {}", outcome.name(), outcome.reason()),
    };
    batch.items.iter().map(|(outcome, _)| shown(outcome)).collect()
}

#[test]
fn batch_items() {
    let mut given = events(&["", "", ""]);
    for (name, value) in [("tenant", "a"), ("weirhops", "2")] {
        given[1].set(name, value.to_owned()).unwrap();
    }
    let rig = Rig::new();
    let loaded = rig.load(BATCH_ITEMS, &Settings::default()).unwrap();
    rig.probe(&loaded).unwrap();
    let batch = rig.run_batch(&loaded, given.clone());
    assert_eq!((batch.call.outcome.name(), outcomes(&batch)), ("done", vec!["done".to_owned(); 3]), "{batch:?}");
    let lines: Vec<_> = batch.call.log.lines().map(|line| line.rsplit_once(' ').unwrap()).collect();
    let told: Vec<_> = lines.iter().map(|(told, _)| *told).collect();
    assert_eq!(
        told,
        [
            "0 e0 [] guest events None 1 of 2 30000",
            "1 e1 [(\"tenant\", \"a\")] guest events None 1 of 2 30000",
            "2 e2 [] guest events None 1 of 2 30000",
        ]
    );
    // The key of an event is the same in a batch and alone: here as a batch of one.
    let alone = rig.wait(rig.begin(&loaded, given.remove(2).into()));
    assert_eq!(alone.outcome, Outcome::Done);
    let key = alone.log.trim_end().rsplit_once(' ').unwrap().1.to_owned();
    assert!(key.len() == 64 && lines[2].1 == key && lines[0].1 != key, "{key} {lines:?}");
}

#[test]
fn batch_ways() {
    let run = |says: &[&str]| run(BATCH_WAYS, &Settings::default(), says);
    let batch = run(&["done", "retry", "missing", "reject", "done"]);
    let expected =
        ["done", "retry: not now", "retry: the handler gave no answer for this item", "reject: never", "done"].map(str::to_owned);
    assert_eq!((batch.call.outcome.name(), outcomes(&batch)), ("done", expected.to_vec()));
    assert_eq!(batch.items[1].0, Outcome::Retry { reason: "not now".to_owned(), after: Some(Duration::from_millis(7)) });
    assert_eq!(outcomes(&run(&["done", "all"])), ["reject: all of them", "reject: all of them"]);
    for (says, reason) in [
        (["done", "range", "done"], "answered item 3 of a batch of 3 (they are counted from 0)"),
        (["done", "twice", "done"], "answered item 1 twice"),
        (["done", "trap", "done"], "e1 is poison"),
    ] {
        let batch = run(&says);
        let Outcome::Trap { reason: found, limit: None } = &batch.call.outcome else { panic!("{batch:?}") };
        assert!(batch.items.is_empty() && found.contains(reason), "{found}");
    }
}

/// As many times the fuel as there are events, and the memory and time of one.
#[test]
fn limits_of_a_batch() {
    let rig = Rig::new();
    let settings = Settings::limits(|limits| (limits.fuel, limits.deadline) = (1_000_000, Duration::from_millis(300)));
    let loaded = rig.load(BATCH_WAYS, &settings).unwrap();
    for count in [1, 4] {
        let mut says = vec!["done"; count];
        says[count - 1] = "loop";
        let batch = rig.run_batch(&loaded, events(&says));
        let limit = batch.call.outcome.limit().map(|limit| (limit.name, limit.value));
        assert_eq!((batch.call.outcome.name(), limit), ("fuel", Some(("fuel", 1_000_000 * count as u64))));
        assert_eq!(batch.call.fuel, 1_000_000 * count as u64);
    }
    let much = Settings::limits(|limits| (limits.fuel, limits.deadline) = (10_000_000_000, Duration::from_millis(300)));
    let batch = rig.run_batch(&rig.load(BATCH_WAYS, &much).unwrap(), events(&["done", "loop"]));
    let limit = batch.call.outcome.limit().map(|limit| (limit.name, limit.value));
    assert_eq!((batch.call.outcome.name(), limit), ("deadline", Some(("deadline", 300))));
    let batch = rig.run_batch(&rig.load(BATCH_WAYS, &Settings::default()).unwrap(), events(&["done", "grow", "done"]));
    let limit = batch.call.outcome.limit().map(|limit| (limit.name, limit.value));
    assert_eq!((batch.call.outcome.name(), limit), ("memory", Some(("memory", 64 << 20))));
    // Nothing of all that is left behind.
    for _ in 0..RUNS {
        assert!(rig.run_batch(&loaded, events(&["done", "trap"])).items.is_empty());
    }
    drop(loaded);
    rig.assert_serves();
}

#[test]
fn batch_publishes() {
    let limited = |publishes| Settings::limits(|limits| limits.publishes = publishes).publish(&["events"]);
    let batch = run(BATCH_PUBLISHES, &limited(2), &["1 done", "5 done", "0 done", "2 retry"]);
    assert_eq!(outcomes(&batch), ["done", "done", "done", "retry: later"]);
    let published: Vec<_> = batch.items.iter().map(|(_, published)| published.len()).collect();
    assert_eq!(published, [1, 5, 0, 2], "as many as the batch may: what of it leaves is up to each outcome");
    let ids: std::collections::BTreeSet<_> =
        batch.items.iter().flat_map(|(_, published)| published).map(|published| published.event.id.clone()).collect();
    assert_eq!(ids.len(), 8, "the same content for another event has another id");
    let told: Vec<_> = batch.call.log.lines().take(3).collect();
    assert_eq!(
        told,
        [
            "Err(Error::Invalid(\"`publish` names no item; in a batch use `publish-for`\"))",
            "Err(Error::Invalid(\"`publish-for`: the batch has no item 4 (it has 4, counted from 0)\"))",
            "Err(Error::Invalid(\"`reply` answers one event, and this is a batch\"))",
        ]
    );
    let over = run(BATCH_PUBLISHES, &limited(2), &["1 done", "4 done"]);
    let limit = over.call.outcome.limit().map(|limit| (limit.name, limit.value));
    assert_eq!((over.call.outcome.name(), limit, over.items.len()), ("output", Some(("publishes", 4)), 0));
    // The ids are those that the event gives alone.
    let rig = Rig::new();
    let alone = rig.wait(rig.begin(&rig.load(BATCH_PUBLISHES, &limited(2)).unwrap(), events(&["1 done"]).remove(0).into()));
    assert_eq!(
        alone.published,
        batch.items[0]
            .1
            .iter()
            .cloned()
            .map(|mut published| {
                published.event = alone.published[0].event.clone();
                published
            })
            .collect::<Vec<_>>()
    );
    assert_eq!(alone.published[0].event.id, batch.items[0].1[0].event.id);
}

/// A mail belongs to its item: by its identity, and when it fails.
#[test]
fn batch_mails() {
    let rig = Rig::new();
    let outbox = rig.folder.path().join("outbox");
    let settings = Settings::limits(|limits| limits.requests = 2).mail(weir_runtime::config::Relay::File(outbox.clone()));
    let loaded = rig.load(BATCH_MAILS, &settings).unwrap();
    let files = || std::fs::read_dir(&outbox).map_or(0, |files| files.count());
    let trapped = rig.run_batch(&loaded, events(&["mail", "mail", "trap"]));
    assert_eq!((trapped.call.outcome.name(), files()), ("trap", 2), "{trapped:?}");
    let batch = rig.run_batch(&loaded, events(&["mail", "mail", "mail"]));
    assert_eq!(outcomes(&batch), ["done"; 3]);
    assert_eq!(files(), 3, "equal mails of three events, two of which were sent before");
    let told: Vec<_> = batch.call.log.lines().take(2).collect();
    assert_eq!(
        told,
        [
            "Err(Error::Invalid(\"`send` names no item; in a batch use `send-for`\"))",
            "Err(Error::Invalid(\"`send-for`: the batch has no item 3 (it has 3, counted from 0)\"))",
        ]
    );
    // Two calls that were refused count too.
    let over = rig.run_batch(&loaded, events(&["mail"]));
    let limit = over.call.outcome.limit().map(|limit| (limit.name, limit.value));
    assert_eq!((over.call.outcome.name(), limit), ("output", Some(("requests", 2))));

    // Elsewhere, where no mail is known to have been sent.
    let rig = Rig::new();
    let away = rig.load(BATCH_MAILS, &Settings::default().mail(nobody())).unwrap();
    let batch = rig.run_batch(&away, events(&["retry", "mail", "done", "missing"]));
    let names: Vec<_> = batch.items.iter().map(|(outcome, _)| outcome.name()).collect();
    assert_eq!(names, ["retry", "host", "done", "host"], "whose mail failed, and who was left out perhaps because of it");
    let batch = rig.run_batch(&away, events(&["mail", "trap"]));
    assert_eq!(batch.call.outcome.name(), "host");
}

/// One that exports both runs by the first, or as weir.toml says; and one that lacks what weir.toml says is refused.
#[test]
fn which_export_runs() {
    use weir_runtime::config::Export;
    use weir_runtime::sandbox::inspect::inspect;
    let inspected = |path: &str| inspect(&std::fs::read(path).unwrap()).unwrap();
    let (batch, single) = (inspected(BATCH_ITEMS), inspected(OUTCOME_DONE));
    let (command, module) = (inspected(COMMAND_ECHO), inspected(MODULE_ECHO));
    let mut other = command.clone();
    other.exports.push("weir:events/handler@0.2.0".to_owned());
    let mut both = single.clone();
    both.exports.extend(batch.exports.clone());
    for (inspection, run, batched, expected) in [
        (&batch, None, false, Ok(Export::Batch)),
        (&batch, None, true, Ok(Export::Batch)),
        (&batch, Some(Export::Handler), false, Err("`run = \"handler\"`")),
        (&single, None, false, Ok(Export::Handler)),
        (&single, None, true, Err("`batch`")),
        (&single, Some(Export::Batch), false, Err("`run = \"batch\"`")),
        (&both, None, false, Ok(Export::Handler)),
        (&both, None, true, Ok(Export::Batch)),
        (&both, Some(Export::Handler), false, Ok(Export::Handler)),
        (&both, Some(Export::Batch), true, Ok(Export::Batch)),
        (&command, None, false, Ok(Export::Command)),
        (&command, Some(Export::Command), false, Ok(Export::Command)),
        (&command, Some(Export::Handler), false, Err("expected `weir:events/handler@0.1.0`: `run = \"handler\"`")),
        (&command, None, true, Err("`batch`")),
        (&module, None, false, Ok(Export::Command)),
        (&module, Some(Export::Command), false, Ok(Export::Command)),
        (&module, Some(Export::Batch), true, Err("`run = \"batch\"`")),
        (&single, Some(Export::Command), false, Err("expected `wasi:cli/run@0.2.0`: `run = \"command\"`")),
        (&other, None, false, Err("`weir:events/handler@0.2.0`")),
        (&other, Some(Export::Command), false, Ok(Export::Command)),
    ] {
        match (inspection.run_as(run, batched), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}: {run:?} {batched}"),
        }
    }
}

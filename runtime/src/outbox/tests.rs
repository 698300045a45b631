//! Tables of what is kept, as what, and what is refused.

use std::collections::BTreeSet;

use super::*;
use crate::event::EXTENSIONS_MAX;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn parent() -> Event {
    let mut event = Event { id: "17".to_owned(), source: "/shop".to_owned(), kind: "order.paid".to_owned(), ..Event::default() };
    for (name, value) in [("traceparent", "00-aa-bb-01"), ("tracestate", "x=y"), (HOPS, "4"), ("tenant", "a")] {
        event.set(name, value.to_owned()).unwrap();
    }
    event
}

fn draft(kind: &str, data: &str) -> Draft {
    Draft { attributes: vec![("id", String::new()), ("type", kind.to_owned())], extensions: Vec::new(), data: Some(data.into()) }
}

fn with(mut draft: Draft, name: &'static str, value: &str) -> Draft {
    draft.attributes.push((name, value.to_owned()));
    draft
}

fn extended(mut draft: Draft, name: &str, value: &str) -> Draft {
    draft.extensions.push((name.to_owned(), value.to_owned()));
    draft
}

/// What one run holds its calls against.
struct Place {
    parent: Event,
    grant: PublishGrant,
    limits: Limits,
    max_event: u64,
}

impl Place {
    fn new() -> Self {
        let grant = PublishGrant { queues: vec!["events".to_owned(), "mails".to_owned()], own: true };
        Self { parent: parent(), grant, limits: Limits::default(), max_event: 1_000 }
    }

    fn publish(&self, outbox: &mut Outbox, queue: &str, draft: Draft, schedule: Schedule) -> Result<(), Refusal> {
        let run = Run {
            handler: "h",
            event: &self.parent,
            item: 0,
            grant: Some(&self.grant),
            limits: &self.limits,
            max_event: self.max_event,
            now: NOW,
        };
        outbox.publish(&run, queue, draft, schedule)
    }

    fn now(&self, outbox: &mut Outbox, queue: &str, draft: Draft) -> Result<(), Refusal> {
        self.publish(outbox, queue, draft, Schedule::Now)
    }

    /// The event that one call makes.
    fn one(&self, queue: &str, draft: Draft) -> Published {
        let mut outbox = Outbox::default();
        self.now(&mut outbox, queue, draft).unwrap();
        outbox.into_published().remove(0)
    }

    /// The ids of a run that publishes these to `events`, by their type and data.
    fn ids(&self, calls: &[(&'static str, &str)]) -> Vec<String> {
        let mut outbox = Outbox::default();
        for (kind, data) in calls {
            self.now(&mut outbox, "events", draft(kind, data)).unwrap();
        }
        outbox.into_published().into_iter().map(|published| published.event.id.clone()).collect()
    }
}

#[test]
fn what_the_guest_leaves_out_is_filled_in() {
    let place = Place::new();
    let Published { to, event, due } = place.one("mails", draft("mail.sent", "{}"));
    assert_eq!((to, due), (Destination::Queue("mails".to_owned()), None));
    assert_eq!((event.source.as_str(), event.time.as_deref()), ("weir:handler/h", Some("2023-11-14T22:13:20.000Z")));
    assert_eq!(event.id.len(), 32);
    event.complete().unwrap();
    let given = with(with(with(draft("mail.sent", "{}"), "id", "1"), "source", "/s"), "time", "2026-11-21T10:00:00Z");
    let event = place.one("mails", given).event;
    let said = (event.id.as_str(), event.source.as_str(), event.time.as_deref());
    assert_eq!(said, ("1", "/s", Some("2026-11-21T10:00:00Z")));
}

#[test]
fn what_descends_is_added() {
    let place = Place::new();
    type Attributes<'a> = &'a [(&'a str, &'a str)];
    let table: [(&str, Attributes<'_>, Attributes<'_>); 5] = [
        ("mails", &[], &[("traceparent", "00-aa-bb-01"), ("tracestate", "x=y"), (HOPS, "5")]),
        ("self", &[], &[("traceparent", "00-aa-bb-01"), ("tracestate", "x=y"), (HANDLER, "h"), (HOPS, "5")]),
        ("mails", &[("traceparent", "00-cc-dd-01")], &[("traceparent", "00-cc-dd-01"), (HOPS, "5")]),
        ("mails", &[("tracestate", "z=1")], &[("traceparent", "00-aa-bb-01"), ("tracestate", "z=1"), (HOPS, "5")]),
        (
            "mails",
            &[("partitionkey", "ann")],
            &[("partitionkey", "ann"), ("traceparent", "00-aa-bb-01"), ("tracestate", "x=y"), (HOPS, "5")],
        ),
    ];
    for (queue, given, expected) in table {
        let draft = given.iter().fold(draft("t", "{}"), |draft, (name, value)| extended(draft, name, value));
        let event = place.one(queue, draft).event;
        let found: Vec<(&str, &str)> = event.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, expected, "{queue} {given:?}");
    }
    for (hops, expected) in [(None, "1"), (Some("x"), "1"), (Some("15"), "16"), (Some("4294967295"), "4294967295")] {
        let mut parent = Event { extensions: Vec::new(), ..parent() };
        if let Some(hops) = hops {
            parent.set(HOPS, hops.to_owned()).unwrap();
        }
        let event = Place { parent, ..Place::new() }.one("mails", draft("t", "{}")).event;
        assert_eq!((event.extension(HOPS), event.extension("traceparent")), (Some(expected), None), "{hops:?}");
    }
}

#[test]
fn where_it_may_go() {
    let place = Place::new();
    let mut outbox = Outbox::default();
    let line = r#"(add to weir.toml under [handler.h.grants]: publish = ["events", "mails", "self", "bills"])"#;
    let table = [
        ("bills", format!("queue `bills` is not granted {line}")),
        ("", r#"queue `` is not granted, and no queue has such a name (granted: "events", "mails", "self")"#.to_owned()),
        ("a\nb", r#"queue `a\nb` is not granted, and no queue has such a name (granted: "events", "mails", "self")"#.to_owned()),
    ];
    for (queue, expected) in table {
        assert_eq!(place.now(&mut outbox, queue, draft("t", "{}")), Err(Refusal::Denied(expected)));
    }
    let Err(Refusal::Denied(text)) = place.now(&mut outbox, &"x".repeat(1 << 20), draft("t", "{}")) else { panic!() };
    assert!(text.len() < 300, "{text}");
    let bare = Place { grant: PublishGrant { queues: vec!["events".to_owned()], own: false }, ..Place::new() };
    let Err(Refusal::Denied(text)) = bare.now(&mut outbox, "self", draft("t", "{}")) else { panic!() };
    assert!(text.ends_with(r#"publish = ["events", "self"])"#), "{text}");
    assert_eq!(outbox.into_published(), []);
    assert_eq!(place.one("self", draft("t", "{}")).to, Destination::Own);
}

#[test]
fn what_is_no_event_is_refused_by_name() {
    let place = Place::new();
    let check = |draft: Draft, expected: &str| {
        let mut outbox = Outbox::default();
        match place.now(&mut outbox, "events", draft) {
            Err(Refusal::Invalid(text)) => assert!(text.contains(expected) && text.len() < 2_000, "{text}"),
            other => panic!("{other:?}, expected {expected}"),
        }
        assert_eq!(outbox.into_published(), []);
    };
    let good = || draft("t", "{}");
    check(draft("", "{}"), "attribute `type` is missing or empty");
    check(with(good(), "time", "noon"), "attribute `time` is `noon`, expected a time as in RFC 3339");
    check(with(good(), "subject", ""), "attribute `subject` is ``");
    check(with(good(), "source", "a\nb"), "attribute `source` is `a\\nb`");
    check(extended(good(), "Tenant", "a"), "attribute `Tenant` is no attribute name");
    check(extended(good(), "data", "a"), "attribute `data`");
    check(extended(good(), "id", "a"), "attribute `id` is among the extensions");
    check(extended(extended(good(), "a", "1"), "a", "2"), "attribute `a` is given twice");
    check(extended(good(), "weirhandler", "h"), "attribute `weirhandler` is Weir's own");
    check(extended(good(), HOPS, "0"), "attribute `weirhops` is Weir's own");
    check(draft("t", "{not json"), "`data` is not JSON, which it is where `datacontenttype` is not given");
    let said = with(draft("t", "{not json"), "datacontenttype", "application/vnd.x+json");
    check(said, "`data` is not JSON, which `datacontenttype` (`application/vnd.x+json`) says it is");
    check(draft("t", &format!("\"{}\"", "x".repeat(1_000))), "event of 1003 bytes is larger than `max-event` (1000 bytes)");
    check(extended(good(), &"x".repeat(2_000), "1"), "larger than `max-event`");
    let text = Place { max_event: 1 << 20, ..Place::new() }.now(
        &mut Outbox::default(),
        "events",
        extended(good(), &"é".repeat(5_000), "1"),
    );
    let Err(Refusal::Invalid(text)) = text else { panic!("{text:?}") };
    assert!(text.len() <= TEXT_MAX + 3 && text.ends_with('…'), "{}", text.len());
    place.one("events", with(draft("t", "{not json"), "datacontenttype", "text/plain"));
    assert_eq!(place.one("events", draft("t", "")).event.data, None, "no bytes are no data");
}

/// What is kept can be written by every adapter, whatever Weir adds.
#[test]
fn there_is_room_for_what_weir_adds() {
    let place = Place::new();
    let many = |count: usize| (0..count).fold(draft("t", "{}"), |draft, at| extended(draft, &format!("x{at}"), "1"));
    let event = place.one("self", many(60)).event;
    assert_eq!(event.extensions.len(), EXTENSIONS_MAX);
    assert_eq!(crate::event::json::read(&crate::event::json::write(&event)).unwrap(), *event);
    let Err(Refusal::Invalid(text)) = place.now(&mut Outbox::default(), "self", many(61)) else { panic!() };
    assert!(text.contains("at most 60 extensions"), "{text}");
}

#[test]
fn counted_limits() {
    let over = |name, value| Err(Refusal::Over(Limit { name, value }));
    let place = Place { limits: Limits { publishes: 2, published: 10, ..Limits::default() }, ..Place::new() };
    let mut outbox = Outbox::default();
    // Of one byte of type and three of data.
    assert_eq!(place.now(&mut outbox, "events", draft("t", "[1]")), Ok(()));
    assert_eq!(place.now(&mut outbox, "events", draft("t", "[100000]")), over("published", 10));
    assert!(matches!(place.now(&mut outbox, "bills", draft("t", "[1]")), Err(Refusal::Denied(_))));
    assert!(matches!(place.now(&mut outbox, "events", draft("", "[1]")), Err(Refusal::Invalid(_))));
    assert_eq!(place.now(&mut outbox, "events", draft("t", "[100]")), Ok(()), "up to the limit");
    assert_eq!(place.now(&mut outbox, "events", draft("t", "")), over("publishes", 2));
    assert_eq!(outbox.into_published().len(), 2);
}

#[test]
fn when_it_is_due() {
    let at = |after: Duration| NOW.after(after);
    let table = [
        (Schedule::Now, Ok(None)),
        (Schedule::After(Duration::ZERO), Ok(None)),
        (Schedule::After(DAY), Ok(Some(at(DAY)))),
        (Schedule::After(DELAY_MAX), Ok(Some(at(DELAY_MAX)))),
        (Schedule::After(DELAY_MAX + Duration::from_millis(1)), Err("expected at most 366 days from now")),
        (Schedule::After(Duration::MAX), Err("the event is due at the far future, expected at most 366 days")),
        (Schedule::At(Timestamp(0)), Ok(None)),
        (Schedule::At(NOW), Ok(None)),
        (Schedule::At(at(DAY)), Ok(Some(at(DAY)))),
        (Schedule::At(at(DELAY_MAX + DAY)), Err("expected at most 366 days from now")),
        (Schedule::At(Timestamp(u64::MAX)), Err("the far future")),
    ];
    let place = Place::new();
    for (schedule, expected) in table {
        let mut outbox = Outbox::default();
        match (place.publish(&mut outbox, "events", draft("t", "{}"), schedule), expected) {
            (Ok(()), Ok(due)) => assert_eq!(outbox.into_published().remove(0).due, due, "{schedule:?}"),
            (Err(Refusal::Invalid(text)), Err(expected)) => assert!(text.contains(expected), "{text}"),
            (found, expected) => panic!("{schedule:?}: {found:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn ids_are_the_same_in_every_attempt() {
    let place = Place::new();
    let calls = [("a", "1"), ("a", "2"), ("b", "1"), ("a", "1"), ("a", "1")];
    let first = place.ids(&calls);
    assert_eq!(first, place.ids(&calls));
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), calls.len(), "equal ones are told apart by their number");
    let other = Place { parent: Event { id: "18".to_owned(), ..parent() }, ..Place::new() };
    assert!(other.ids(&calls).iter().all(|id| !first.contains(id)), "of another event");
    assert_ne!(place.one("mails", draft("a", "1")).event.id, first[0], "in another queue");
}

/// A process that is killed after a part has left, and a rerun that takes another path: whatever has an id that has left is equal to what
/// left with it, so that no duplicate window drops anything else.
#[test]
fn another_path_does_not_take_an_id_that_has_left() {
    let place = Place::new();
    let left = [("a", "1"), ("b", "2"), ("b", "2"), ("c", "3")];
    let ids: Vec<_> = place.ids(&left).into_iter().zip(left).collect();
    let reruns: [&[(&str, &str)]; 6] = [
        &[("b", "2"), ("a", "1")],
        &[("x", "9"), ("b", "2"), ("b", "2"), ("b", "2")],
        &[("c", "3"), ("b", "2"), ("a", "2"), ("a", "1"), ("a", "1")],
        &[("b", "1"), ("a", "2"), ("c", "2"), ("b", "3")],
        &[("c", "3")],
        &[("b", "2")],
    ];
    for rerun in reruns {
        for (id, call) in place.ids(rerun).into_iter().zip(rerun) {
            let same = ids.iter().find(|(left, _)| *left == id).map(|(_, call)| call);
            assert!(same.is_none_or(|same| same == call), "{rerun:?}: {call:?} has the id of {same:?}");
        }
    }
    // And what is equal has the id of what left.
    assert_eq!(place.ids(&[("b", "2"), ("a", "1")]), [ids[1].0.clone(), ids[0].0.clone()]);
}

/// An event with an id of the guest's own does not number those without.
#[test]
fn given_ids_are_kept_and_do_not_count() {
    let place = Place::new();
    let alone = place.ids(&[("a", "1")]);
    let mut outbox = Outbox::default();
    place.now(&mut outbox, "events", with(draft("a", "1"), "id", "mine")).unwrap();
    place.now(&mut outbox, "bills", draft("a", "1")).unwrap_err();
    place.now(&mut outbox, "events", draft("a", "1")).unwrap();
    let ids: Vec<_> = outbox.into_published().into_iter().map(|published| published.event.id.clone()).collect();
    assert_eq!(ids, ["mine".to_owned(), alone[0].clone()]);
}

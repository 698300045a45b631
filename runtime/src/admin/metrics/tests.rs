//! The text read by a strict parser of the format, and the identity of delivery.md §5 checked on what it reads.

use std::collections::{BTreeMap, BTreeSet};

use super::super::status::SubscriptionStatus;
use super::*;

type Labels = BTreeMap<String, String>;

/// Samples by name, of a text that keeps every rule of the format 0.0.4; panics where one is broken.
fn parse(text: &str) -> BTreeMap<String, Vec<(Labels, f64)>> {
    assert!(text.ends_with('\n'), "the last line ends");
    let (mut samples, mut kinds) = (BTreeMap::<String, Vec<(Labels, f64)>>::new(), BTreeMap::new());
    let (mut family, mut helped) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = rest.split_once(' ').unwrap().0.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, helped, "help stands before type");
            assert!(["counter", "gauge", "histogram"].contains(&kind));
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "family {name} stands twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            family = name.to_owned();
        } else {
            let (name, labels, value) = sample(line);
            let base = match kinds.get(&family).map(String::as_str) {
                Some("histogram") => ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap(),
                _ => &name,
            };
            assert_eq!(base, family, "samples stand with their family");
            let same = samples.entry(name).or_default();
            assert!(!same.iter().any(|(other, _)| *other == labels), "series stands twice: {line}");
            same.push((labels, value));
        }
    }
    samples
}

fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value = value.parse::<f64>().unwrap();
    let Some((name, rest)) = series.split_once('{') else { return (series.to_owned(), Labels::new(), value) };
    let mut rest = rest.strip_suffix('}').unwrap();
    let mut labels = Labels::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").unwrap();
        assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label}");
        let (mut text, mut characters) = (String::new(), quoted.char_indices());
        let end = loop {
            match characters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => text.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    same @ ('\\' | '"') => same,
                    other => panic!("escape of {other}"),
                }),
                (_, other) => text.push(other),
            }
        };
        assert!(labels.insert(label.to_owned(), text).is_none());
        rest = &quoted[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
    (name.to_owned(), labels, value)
}

fn counts(seed: u64) -> Counts {
    let mut counts =
        Counts { acked: 10 + seed, dead: 2, expired: 1, in_flight: 3, parked: seed, attempts: 20, ..Counts::default() };
    for cause in Cause::ALL {
        counts.count_returned(cause);
    }
    counts.received = counts.acked + 2 + 1 + 7 + 3 + seed;
    counts.seconds.observe(0.000_02);
    counts.seconds.observe(1e9);
    counts.fuel.observe(5e5);
    counts.outcomes[0] = 4;
    counts
}

fn scrape() -> Scrape {
    let subscription = |queue: &str, handler: &str, seed| (queue.to_owned(), handler.to_owned(), counts(seed));
    let waits = |handler: &str, lag_seconds| SubscriptionStatus {
        handler: handler.to_owned(),
        depth: Some(7),
        lag_seconds,
        partitions: vec![(0, 3), (1, 4)],
        ..SubscriptionStatus::default()
    };
    Scrape {
        subscriptions: vec![
            subscription("events", "mailer", 0),
            subscription("late", "mailer", 5),
            subscription("events", "audit", 1),
        ],
        queues: vec![QueueStatus {
            name: "events".to_owned(),
            subscriptions: vec![waits("mailer", Some(1.25)), waits("odd\"\\\nname", None)],
            ..QueueStatus::default()
        }],
        handlers: vec![("mailer".to_owned(), "sha256:00".to_owned())],
        dead: vec![("events".to_owned(), 4)],
        reloads: vec![Reloads { handler: "mailer".to_owned(), succeeded: 2, failed: 1 }],
    }
}

#[test]
fn the_text_keeps_the_format_and_has_every_family() {
    let samples = parse(&scrape().render());
    let names: BTreeSet<&str> = samples.keys().map(String::as_str).collect();
    for name in [
        "weir_events_received_total",
        "weir_events_ended_total",
        "weir_events_returned_total",
        "weir_outcomes_total",
        "weir_attempts_total",
        "weir_events_in_flight",
        "weir_events_parked",
        "weir_handler_seconds_bucket",
        "weir_handler_fuel_bucket",
        "weir_handler_memory_bytes_bucket",
        "weir_queue_depth",
        "weir_queue_lag_seconds",
        "weir_queue_partition_depth",
        "weir_event_age_seconds_bucket",
        "weir_dead_letters",
        "weir_reloads_total",
        "weir_handler_info",
        "weir_build_info",
    ] {
        assert!(names.contains(name), "{name}");
    }
    assert!(samples["weir_queue_depth"].iter().any(|(labels, depth)| labels["handler"] == "odd\"\\\nname" && *depth == 7.0));
    assert_eq!(samples["weir_queue_lag_seconds"].len(), 1, "what can't be told is left out");
    assert_eq!(samples["weir_attempts_total"].iter().map(|(_, value)| value).sum::<f64>(), 60.0);
    parse(&Scrape::default().render());
}

#[test]
fn histograms_are_cumulative_and_end_with_their_count() {
    let samples = parse(&scrape().render());
    for name in ["weir_handler_seconds", "weir_handler_fuel", "weir_handler_memory_bytes", "weir_event_age_seconds"] {
        for (labels, count) in &samples[&format!("{name}_count")] {
            let of_handler = |sample: &&(Labels, f64)| sample.0["handler"] == labels["handler"];
            let buckets: Vec<_> = samples[&format!("{name}_bucket")].iter().filter(of_handler).collect();
            let bounds: Vec<f64> = buckets.iter().map(|(labels, _)| labels["le"].parse().unwrap()).collect();
            assert!(bounds.is_sorted() && bounds.last().unwrap().is_infinite(), "{name}");
            assert!(buckets.is_sorted_by_key(|(_, seen)| *seen), "{name}");
            assert_eq!(buckets.last().unwrap().1, *count, "{name}");
        }
    }
    let mailer = samples["weir_handler_seconds_count"].iter().find(|(labels, _)| labels["handler"] == "mailer");
    assert_eq!(mailer.unwrap().1, 4.0, "two queues are one handler");
}

#[test]
fn what_was_received_is_somewhere() {
    let samples = parse(&scrape().render());
    let sum = |name: &str, of: &Labels| {
        let is_of = |labels: &Labels| labels["queue"] == of["queue"] && labels["handler"] == of["handler"];
        samples[name].iter().filter(|(labels, _)| is_of(labels)).map(|(_, value)| value).sum::<f64>()
    };
    for (labels, received) in &samples["weir_events_received_total"] {
        let terms = ["weir_events_ended_total", "weir_events_returned_total", "weir_events_in_flight", "weir_events_parked"];
        assert_eq!(*received, terms.iter().map(|name| sum(name, labels)).sum::<f64>(), "{labels:?}");
    }
}

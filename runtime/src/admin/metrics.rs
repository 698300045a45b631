//! `GET /metrics`: one consistent snapshot per subscription as Prometheus text, version 0.0.4 (surface.md §4).
//!
//! No term is computed from others: each is what was counted, so that the identity of delivery.md §5 can be checked on the text.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::backend::Reloads;
use super::status::queue::FallbackStatus;
use super::status::{QueueStatus, merge};
use crate::outcome::Outcome;
use crate::stats::{Cause, Counts, Histogram};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that one scrape shows, taken at one time.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// Queue, handler and counters of each subscription.
    pub subscriptions: Vec<(String, String, Counts)>,
    /// What waits.
    pub queues: Vec<QueueStatus>,
    /// Name and digest of each handler that has one.
    pub handlers: Vec<(String, String)>,
    /// Dead letters by queue.
    pub dead: Vec<(String, u64)>,
    /// Reloads by handler.
    pub reloads: Vec<Reloads>,
}

/// A counter's label and where it is read.
type Term = (&'static str, fn(&Counts) -> u64);

/// A histogram's name and help, and where it is read.
type Spread = (&'static str, &'static str, fn(&Counts) -> &Histogram);

/// A fallback's number: name, kind and help, and where it is read.
type Held = (&'static str, &'static str, &'static str, fn(&FallbackStatus) -> Option<u64>);

const ENDED: [Term; 5] = [
    ("acked", |counts| counts.acked),
    ("dead", |counts| counts.dead),
    ("filtered", |counts| counts.filtered),
    ("expired", |counts| counts.expired),
    ("duplicate", |counts| counts.duplicate),
];

impl Scrape {
    /// The text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text::default();
        self.deliveries(&mut text);
        self.runs(&mut text);
        self.waiting(&mut text);
        self.server(&mut text);
        text.0
    }

    fn deliveries(&self, text: &mut Text) {
        text.family("weir_events_received_total", "counter", "Deliveries taken from the queue.");
        for (queue, handler, counts) in &self.subscriptions {
            text.sample(&[("queue", queue), ("handler", handler)], counts.received);
        }
        text.family("weir_events_ended_total", "counter", "Events ended, by state.");
        for (queue, handler, counts) in &self.subscriptions {
            for (state, term) in ENDED {
                text.sample(&[("queue", queue), ("handler", handler), ("state", state)], term(counts));
            }
        }
        text.family("weir_events_returned_total", "counter", "Deliveries that went back unfinished, by cause.");
        for (queue, handler, counts) in &self.subscriptions {
            for (cause, count) in Cause::ALL.iter().zip(counts.returned) {
                text.sample(&[("queue", queue), ("handler", handler), ("cause", cause.name())], count);
            }
        }
        text.family("weir_events_in_flight", "gauge", "Events that run now, or are about to.");
        for (queue, handler, counts) in &self.subscriptions {
            text.sample(&[("queue", queue), ("handler", handler)], counts.in_flight);
        }
        text.family("weir_events_parked", "gauge", "Events that this process holds and does not run.");
        for (queue, handler, counts) in &self.subscriptions {
            text.sample(&[("queue", queue), ("handler", handler)], counts.parked);
        }
    }

    fn runs(&self, text: &mut Text) {
        let mut handlers: BTreeMap<&str, Vec<Counts>> = BTreeMap::new();
        for (_, handler, counts) in &self.subscriptions {
            handlers.entry(handler).or_default().push(counts.clone());
        }
        text.family("weir_attempts_total", "counter", "Runs begun.");
        for (handler, counts) in &handlers {
            text.sample(&[("handler", handler)], counts.iter().map(|counts| counts.attempts).sum::<u64>());
        }
        text.family("weir_outcomes_total", "counter", "Runs ended, by outcome.");
        for (handler, counts) in &handlers {
            for (at, outcome) in Outcome::NAMES.into_iter().enumerate() {
                let runs = counts.iter().filter_map(|counts| counts.outcomes.get(at)).sum::<u64>();
                text.sample(&[("handler", handler), ("outcome", outcome)], runs);
            }
        }
        let histograms: [Spread; 4] = [
            ("weir_handler_seconds", "Wall clock of a run.", |counts| &counts.seconds),
            ("weir_handler_fuel", "Fuel of a run.", |counts| &counts.fuel),
            ("weir_handler_memory_bytes", "Peak of linear memory of a run.", |counts| &counts.memory),
            ("weir_event_age_seconds", "From publish to end.", |counts| &counts.age),
        ];
        for (name, help, of) in histograms {
            text.family(name, "histogram", help);
            for (handler, counts) in &handlers {
                text.histogram(&[("handler", handler)], &merge(counts, of));
            }
        }
    }

    fn waiting(&self, text: &mut Text) {
        let subscriptions = || self.queues.iter().flat_map(|queue| queue.subscriptions.iter().map(|one| (&queue.name, one)));
        text.family("weir_queue_depth", "gauge", "Events that wait.");
        for (queue, one) in subscriptions() {
            if let Some(depth) = one.depth {
                text.sample(&[("queue", queue), ("handler", &one.handler)], depth);
            }
        }
        text.family("weir_queue_lag_seconds", "gauge", "Age of the oldest event that waits.");
        for (queue, one) in subscriptions() {
            if let Some(lag) = one.lag_seconds {
                text.sample(&[("queue", queue), ("handler", &one.handler)], lag);
            }
        }
        self.fallbacks(text);
        let dropping = || self.queues.iter().filter_map(|queue| Some((&queue.name, queue.dropped?)));
        if dropping().next().is_some() {
            text.family("weir_queue_dropped_total", "counter", "Messages that found no room and that no broker keeps.");
        }
        for (queue, dropped) in dropping() {
            text.sample(&[("queue", queue)], dropped);
        }
        text.family("weir_dead_letters", "gauge", "Dead letters kept.");
        for (queue, count) in &self.dead {
            text.sample(&[("queue", queue)], count);
        }
    }

    fn fallbacks(&self, text: &mut Text) {
        let all = || self.queues.iter().filter_map(|queue| Some((&queue.name, queue.fallback.as_ref()?)));
        let families: [Held; 3] = [
            ("weir_fallback_events", "gauge", "Events that wait in a fallback for their broker.", |one| one.depth),
            ("weir_fallback_taken_total", "counter", "Events that a fallback took while its broker was away.", |one| one.taken),
            ("weir_fallback_forwarded_total", "counter", "Events that a fallback gave to its broker.", |one| one.forwarded),
        ];
        for (name, kind, help, of) in families.into_iter().filter(|_| all().next().is_some()) {
            text.family(name, kind, help);
            for (queue, one) in all() {
                if let Some(value) = of(one) {
                    text.sample(&[("queue", queue)], value);
                }
            }
        }
    }

    fn server(&self, text: &mut Text) {
        text.family("weir_reloads_total", "counter", "Handlers loaded anew, by what came of it.");
        for reloads in &self.reloads {
            text.sample(&[("handler", &reloads.handler), ("result", "succeeded")], reloads.succeeded);
            text.sample(&[("handler", &reloads.handler), ("result", "failed")], reloads.failed);
        }
        text.family("weir_handler_info", "gauge", "The version of each handler that runs.");
        for (handler, version) in &self.handlers {
            text.sample(&[("handler", handler), ("version", version)], 1);
        }
        text.family("weir_build_info", "gauge", "The version of this server.");
        text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    }
}

/// A text under way: every sample belongs to the family named last.
#[derive(Default)]
struct Text(String, &'static str);

impl Text {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.1 = name;
        // Writing into a String has no error case; the same holds below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut seen = 0;
        let bounds = histogram.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&histogram.counts) {
            seen += count;
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line("_bucket", &labels, seen);
        }
        self.line("_sum", labels, histogram.sum);
        self.line("_count", labels, seen);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(self.1);
        self.0.push_str(suffix);
        for (at, (name, value)) in labels.iter().enumerate() {
            self.0.push_str(if at == 0 { "{" } else { "," });
            let _ = write!(self.0, "{name}=\"");
            for character in value.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests;

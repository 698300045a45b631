//! Sends e-mails for events, by rules: who is written to, when, and how. README.md is the reference of the rules.
//!
//! The path of an event: `rules` finds the rules of its type. A mail that leaves now is made by `mail` (`recipients`, `locale`,
//! `template`, `headers`), and the server sends it. One that waits (`when`) is written down by `waiting`, and a timer, an event that the
//! handler publishes to itself, sends it the same way. Every event runs in a fresh instance, so rules are read anew each time, and only
//! what the event needs of them.

mod headers;
mod locale;
mod mail;
mod notify;
mod path;
mod recipients;
mod rules;
mod server;
mod template;
#[cfg(test)]
mod tests;
mod waiting;
mod when;

use weir_sdk::prelude::*;

use crate::mail::Context;
use crate::notify::Arrival;
use crate::rules::{Mistake, Rules};
use crate::server::Server;
use crate::waiting::{Timer, answers, enter, timer};

/// The type of the events that this handler publishes to itself.
const TIMER: &str = "email-notifier.timer";

weir_sdk::handler!(handle, self_test = check);

/// Sends what the rules ask for: for this event, or for those that a timer stands for.
fn handle(event: Event<Bytes>, delivery: Delivery) -> Result {
    let server = Server::default();
    let text = config::require("rules")?;
    let (sender_name, locale) = (config::get("sender-name"), config::get("locale"));
    let context = Context { sender_name: sender_name.as_deref(), locale: locale.as_deref() };
    if event.kind != TIMER {
        let rules = Rules::parse(&text).map_err(broken)?;
        return notify::arrived(&server, &rules, Arrival::new(event, &delivery), &context);
    }
    let id = event.id.clone();
    match event.decode::<Timer>()?.data {
        Timer::Arm(window) => enter::arm(&server, &id, &window),
        Timer::Send(window) => {
            let run = timer::Run { id: &id, time_left: delivery.time_left };
            timer::send(&server, &run, &window, &|| Rules::parse(&text).map_err(broken), &context)
        }
        Timer::Sweep(window) => timer::sweep(&server, &window),
        Timer::Forget(key) => answers::forget(&server, &key),
    }
}

/// Says what was noted about an event.
fn note(rule: &str, notes: &[String]) {
    for note in notes {
        log::warn!("rule `{rule}`: {note}");
    }
}

/// One answer for several failures: a retry when one of them may still work, as soon as the first of them may, with everything that is
/// wrong in the reason.
fn settle(failures: Vec<Failure>) -> Result {
    let Some(first) = failures.first() else { return Ok(()) };
    let reason = failures.iter().map(Failure::reason).collect::<Vec<_>>().join("; ");
    let retries = failures.iter().filter_map(|failure| match failure {
        Failure::Retry { after, .. } => Some(*after),
        Failure::Reject { .. } => None,
    });
    Err(match (retries.min(), first) {
        (Some(after), _) => Failure::Retry { reason, after },
        (None, _) => Failure::Reject { reason },
    })
}

/// Reads all rules and compiles all templates: a mistake keeps the old rules in force.
fn check() -> Result {
    let text = config::require("rules")?;
    let rules = Rules::parse(&text).map_err(broken)?;
    for rule in rules.all().map_err(broken)? {
        mail::check(&rule).or_reject(format!("rules: rule `{}`", rule.name))?;
    }
    Ok(())
}

fn broken(mistake: Mistake) -> Failure {
    reject(format!("rules: {mistake}"))
}

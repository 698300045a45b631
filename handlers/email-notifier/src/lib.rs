//! Sends e-mails for events, by rules: who is written to, and how. README.md is the reference of the rules.
//!
//! The path of an event: `rules` finds the rules of its type, `mail` makes a message of each (`recipients`, `locale`, `template`,
//! `headers`), the server sends it. Every event runs in a fresh instance, so rules are read anew each time, and only what the event
//! needs of them.

mod headers;
mod locale;
mod mail;
mod path;
mod recipients;
mod rules;
mod template;
#[cfg(test)]
mod tests;

use weir_sdk::email::{Error, Message};
use weir_sdk::prelude::*;

use crate::mail::Context;
use crate::rules::{Mistake, Rule, Rules};

weir_sdk::handler!(notify, self_test = check);

/// Sends what the rules for this event's type ask for.
fn notify(event: Event<Bytes>) -> Result {
    let text = config::require("rules")?;
    let rules = Rules::parse(&text).map_err(broken)?;
    let matching = rules.matching(&event.kind).map_err(broken)?;
    if matching.is_empty() {
        log::debug!("no rule for type `{}`", event.kind);
        return Ok(());
    }
    let sender_name = config::get("sender-name");
    let fallback = config::get("locale");
    let event: Event = event.decode()?;
    let context = Context { event: &event, sender_name: sender_name.as_deref(), locale: fallback.as_deref() };
    // Every rule has its turn, also after one that failed; what was sent is not sent again at the next attempt.
    settle(matching.iter().filter_map(|rule| apply(rule, &context).err()).collect())
}

/// Sends the mails of one rule.
fn apply(rule: &Rule<'_>, context: &Context<'_>) -> Result {
    let messages = mail::messages(rule, context).map_err(|failure| failure.context(format!("rule `{}`", rule.name)))?;
    let failures = messages.into_iter().filter_map(|message| send(rule.name, message).err()).collect();
    settle(failures)
}

fn send(rule: &str, message: Message) -> Result {
    let id = message.send().map_err(|error| {
        let what = match &error {
            Error::Denied(_) => "the mail is not granted",
            Error::Invalid(_) => "not a valid mail",
            Error::Rejected(_) => "the relay refused the mail",
            Error::Unavailable(_) => "the relay can't take the mail now",
        };
        Failure::from(error).context(format!("rule `{rule}`: {what}"))
    })?;
    log::info!("rule `{rule}`: sent {id}");
    Ok(())
}

/// One answer for several failures: a retry when one of them may still work, with everything that is wrong in the reason.
fn settle(failures: Vec<Failure>) -> Result {
    let Some(first) = failures.first() else { return Ok(()) };
    let reason = failures.iter().map(Failure::reason).collect::<Vec<_>>().join("; ");
    let later = failures.iter().find(|failure| matches!(failure, Failure::Retry { .. }));
    Err(match later.unwrap_or(first) {
        Failure::Retry { after, .. } => Failure::Retry { reason, after: *after },
        Failure::Reject { .. } => Failure::Reject { reason },
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

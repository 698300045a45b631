//! Sends events as signed HTTP requests, by rules: where to, what, and signed with which key. README.md is the reference of the rules.
//!
//! The path of an event: `rules` finds the rules that fit, `template` writes address, headers and body, `sign` signs, the server sends,
//! `answer` says what the answer means. Every event runs in a fresh instance, so rules are read anew each time.

mod answer;
mod rules;
mod sign;
mod template;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use weir_sdk::http::Request;
use weir_sdk::prelude::*;

use crate::rules::{Body, Rule, Rules};
use crate::sign::Keys;
use crate::template::{Form, Templates};

weir_sdk::handler!(notify, self_test = check);

/// Sends what the rules for this event ask for.
fn notify(event: Event<Bytes>, delivery: Delivery) -> Result {
    let rules = Rules::parse(&config::require("rules")?).map_err(broken)?;
    let matching = rules.matching(&event);
    if matching.is_empty() {
        log::debug!("no rule for type `{}`", event.kind);
        return Ok(());
    }
    // Every rule has its turn, also after one that failed.
    settle(matching.into_iter().filter_map(|rule| send(rule, &event, &delivery).err()).collect())
}

fn send(rule: &Rule, event: &Event<Bytes>, delivery: &Delivery) -> Result {
    let now = SystemTime::now();
    let sent = write(rule, event, (delivery, now)).and_then(|request| match request.send() {
        Ok(response) => {
            log::info!("rule `{}`: answered {}", rule.name, response.status);
            answer::meaning(&response, now)
        }
        Err(error) => Err(Failure::from(error)),
    });
    sent.map_err(|failure| failure.context(format!("rule `{}`", rule.name)))
}

/// The request of one rule for one event.
fn write(rule: &Rule, event: &Event<Bytes>, (delivery, now): (&Delivery, SystemTime)) -> Result<Request> {
    let templates = Templates::new(event)?;
    let url = templates.address("url", &rule.url)?;
    let (body, content_type) = match rule.body() {
        Body::Event => (template::structured(event), "application/cloudevents+json; charset=utf-8"),
        Body::Data => (event.data.0.clone(), event.datacontenttype.as_deref().unwrap_or("application/json")),
        Body::Template { text, content_type } => {
            (templates.render("body", Form::of_body(content_type), text)?.into_bytes(), content_type)
        }
    };
    let mut request = http::request(rule.method.as_str(), url).wanted(answer::WANTED).timeout(rule.timeout());
    request = request.header("content-type", template::line(content_type)).header("user-agent", USER_AGENT);
    for (name, source) in &rule.headers {
        let value = templates.render(&format!("headers.{name}"), Form::Text, source)?;
        request = request.header(name.to_ascii_lowercase(), template::line(&value));
    }
    if rule.sign {
        let keys = Keys::parse(&config::require(&rule.key)?).or_reject(format!("config key `{}`", rule.key))?;
        let id = sign::message_id(&delivery.idempotency_key, &rule.name);
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        for (name, value) in keys.headers(&id, seconds, &body) {
            request = request.header(name, value);
        }
    }
    Ok(request.body(body))
}

/// How a receiver's log knows us.
const USER_AGENT: &str = concat!("weir-webhook-notifier/", env!("CARGO_PKG_VERSION"));

/// One answer for several failures: a retry when one of them may still work, with everything that is wrong in the reason.
fn settle(failures: Vec<Failure>) -> Result {
    let Some(first) = failures.first() else { return Ok(()) };
    let reason = failures.iter().map(Failure::reason).collect::<Vec<_>>().join("; ");
    let later = failures.iter().find(|failure| matches!(failure, Failure::Retry { .. }));
    Err(match later.unwrap_or(first) {
        // The longest wait: nobody who asked for one is asked again before.
        Failure::Retry { .. } => Failure::Retry { reason, after: failures.iter().filter_map(after).max() },
        Failure::Reject { .. } => Failure::Reject { reason },
    })
}

fn after(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::Retry { after, .. } => *after,
        Failure::Reject { .. } => None,
    }
}

/// Reads all rules and keys and compiles all templates: a mistake keeps the old rules in force.
fn check() -> Result {
    let rules = Rules::parse(&config::require("rules")?).map_err(broken)?;
    for rule in rules.all() {
        let place = || format!("rules: rule `{}`", rule.name);
        template::check(rule).or_reject(place())?;
        if rule.sign {
            let keys = config::require(&rule.key).map_err(|missing| Failure::from(missing).context(place()))?;
            Keys::parse(&keys).or_reject(format!("config key `{}`", rule.key))?;
        }
    }
    Ok(())
}

fn broken(mistake: String) -> Failure {
    reject(format!("rules: {mistake}"))
}

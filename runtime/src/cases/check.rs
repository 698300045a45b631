//! What was expected, against what happened: a list of differences. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::course::Run;
use super::diff::Difference;
use crate::config::{Check, Expect, Outcomes, Test, Things, fmt_duration};
use crate::mail::CapturedMail;
use crate::outgoing::Asked;
use crate::trial::Leaving;

/// What buckets hold, by name; or why that can't be told.
pub(super) type Held = BTreeMap<String, Result<BTreeMap<String, Vec<u8>>, String>>;

/// All that is otherwise than expected of these runs, and of what buckets hold after them.
pub(super) fn differences(expect: &Expect, runs: &[Run], held: &Held) -> Vec<Difference> {
    let mut found: Vec<Difference> = outcomes(&expect.outcome, runs).into_iter().collect();
    let together = |of: fn(&Run) -> &str| {
        let texts: Vec<&str> = runs.iter().map(of).filter(|text| !text.is_empty()).collect();
        Json::String(texts.join("\n"))
    };
    for (checks, text) in [(&expect.reason, together(|run| &run.reason)), (&expect.log, together(|run| &run.log))] {
        found.extend(checks.iter().filter_map(|check| one(check, &text, "")));
    }
    if let Some(limit) = &expect.limit {
        let fired: Vec<&str> = runs.iter().filter_map(|run| Some(run.limit?.name)).collect();
        if !fired.contains(&limit.as_str()) {
            found.push(Difference::said("limit", limit, &or_none(fired.join(", "))));
        }
    }
    if let Some(after) = expect.retry_after {
        let asked = runs.iter().rev().find(|run| run.outcome == "retry").and_then(|run| run.retry_after);
        if asked != Some(after) {
            let asked = asked.map_or_else(|| "none was asked for".to_owned(), fmt_duration);
            found.push(Difference::said("retry.after", &fmt_duration(after), &asked));
        }
    }
    if let Some(bound) = expect.fuel_below {
        let most = runs.iter().map(|run| run.fuel).max().unwrap_or_default();
        if most >= bound {
            found.push(Difference::said("fuel-below", &bound.to_string(), &most.to_string()));
        }
    }
    let mails: Vec<Json> = runs.iter().flat_map(|run| &run.mails).map(mail).collect();
    found.extend(things("email", &expect.email, &mails, said_mail));
    let published: Vec<Json> = runs.iter().flat_map(|run| run.published.iter().map(|one| event(run, one))).collect();
    found.extend(things("published", &expect.published, &published, said_event));
    let asked: Vec<Json> = runs.iter().flat_map(|run| &run.asked).map(request).collect();
    found.extend(things("http", &expect.http, &asked, said_request));
    found.extend(expect.buckets.iter().filter_map(|(name, test)| bucket(name, test, held.get(name)?)));
    found
}

fn bucket(name: &str, test: &Test, held: &Result<BTreeMap<String, Vec<u8>>, String>) -> Option<Difference> {
    let (Test::Is(expected) | Test::Has(expected)) = test else { return None };
    let held = match held {
        Ok(held) => held,
        Err(why) => return Some(Difference::said(&format!("keyvalue.{name}"), "a bucket", why)),
    };
    let value = |(key, value): (&String, &Vec<u8>)| {
        let text = String::from_utf8_lossy(value);
        // Who expects something else than a text expects JSON.
        let is_text = expected.get(key).is_none_or(Json::is_string);
        let read = if is_text { None } else { serde_json::from_slice(value).ok() };
        (key.clone(), read.unwrap_or_else(|| Json::String(text.into_owned())))
    };
    let held = Json::Object(held.iter().map(value).collect());
    one(&Check { key: format!("keyvalue.{name}"), of: "", test: test.clone() }, &held, "")
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

fn outcomes(expected: &Outcomes, runs: &[Run]) -> Option<Difference> {
    let all = |name: &str| runs.iter().all(|run| run.outcome == name);
    let (right, wanted) = match expected {
        Outcomes::Done => (all("done"), "done".to_owned()),
        Outcomes::All(name) => (!runs.is_empty() && all(name), name.clone()),
        Outcomes::Each(names) => {
            (names.len() == runs.len() && names.iter().zip(runs).all(|(name, run)| name == run.outcome), names.join("\n"))
        }
    };
    if right {
        return None;
    }
    let told = |run: &Run| {
        let reason = if run.reason.is_empty() { String::new() } else { format!(": {}", run.reason) };
        // One event says for itself which it is.
        let which = if runs.len() > 1 || run.own { format!("   `{}` at {}", run.kind, run.at) } else { String::new() };
        format!("{}{reason}{which}", run.outcome)
    };
    let found: Vec<String> = runs.iter().map(told).collect();
    let found = if found.is_empty() { "nothing came to the handler".to_owned() } else { found.join("\n") };
    Some(Difference::said("outcome", &or_none(wanted), &found))
}

/// Things in their order: each against what is expected in its place, then what is missing or too many.
fn things(name: &str, expected: &Things, found: &[Json], said: fn(&Json) -> String) -> Vec<Difference> {
    let Things::These(expected) = expected else { return Vec::new() };
    let mut differences = Vec::new();
    for (at, checks) in expected.iter().enumerate() {
        let place = format!("{name}[{at}]");
        match found.get(at) {
            Some(thing) => {
                let of = |check: &Check| one(check, thing.get(check.of).unwrap_or(&Json::Null), &format!("{place}."));
                differences.extend(checks.iter().filter_map(of));
            }
            None => differences.push(Difference::said(&place, &wanted(checks), "none")),
        }
    }
    for (at, thing) in found.iter().enumerate().skip(expected.len()) {
        differences.push(Difference::said(&format!("{name}[{at}]"), "none", &said(thing)));
    }
    differences
}

/// What was expected of a thing that is missing.
fn wanted(checks: &[Check]) -> String {
    let one = |check: &Check| match &check.test {
        Test::Is(value) | Test::Has(value) => format!("{} = {value}", check.key),
        Test::Contains(texts) | Test::Lacks(texts) => format!("{} = {}", check.key, json!(texts)),
    };
    if checks.is_empty() { "one".to_owned() } else { checks.iter().map(one).collect::<Vec<_>>().join("\n") }
}

/// Checks one value.
fn one(check: &Check, found: &Json, place: &str) -> Option<Difference> {
    let text = found.as_str().unwrap_or_default();
    let at = format!("{place}{}", check.key);
    match &check.test {
        Test::Is(expected) if is(expected, found) => None,
        Test::Is(expected) => Some(Difference::values(&at, expected, found)),
        Test::Has(expected) if has(expected, found) => None,
        Test::Has(expected) => Some(Difference::values(&at, expected, &narrowed(expected, found))),
        Test::Contains(pieces) => {
            let missing: Vec<&str> = pieces.iter().map(String::as_str).filter(|piece| !text.contains(piece)).collect();
            (!missing.is_empty()).then(|| Difference::said(&at, &missing.join("\n"), &or_none(text.to_owned())))
        }
        Test::Lacks(pieces) => {
            let there: Vec<&str> = pieces.iter().map(String::as_str).filter(|piece| text.contains(piece)).collect();
            (!there.is_empty()).then(|| Difference::said(&at, &format!("without {}", there.join(", ")), text))
        }
    }
}

/// Equal as JSON is: 1 and 1.0 are one number.
fn is(expected: &Json, found: &Json) -> bool {
    match (expected, found) {
        (Json::Number(expected), Json::Number(found)) => expected == found || expected.as_f64() == found.as_f64(),
        (Json::Array(expected), Json::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(expected, found)| is(expected, found))
        }
        (Json::Object(expected), Json::Object(found)) => {
            let same = |(name, value): (&String, &Json)| found.get(name).is_some_and(|found| is(value, found));
            expected.len() == found.len() && expected.iter().all(same)
        }
        (expected, found) => expected == found,
    }
}

/// Whether all keys are there with their values, down through tables.
fn has(expected: &Json, found: &Json) -> bool {
    match (expected, found) {
        (Json::Object(expected), Json::Object(found)) => {
            expected.iter().all(|(name, value)| found.get(name).is_some_and(|found| has(value, found)))
        }
        (expected, found) => is(expected, found),
    }
}

/// Only those keys that are asked for.
fn narrowed(expected: &Json, found: &Json) -> Json {
    let (Json::Object(expected), Json::Object(found)) = (expected, found) else { return found.clone() };
    let asked = expected.iter().filter_map(|(name, value)| Some((name.clone(), narrowed(value, found.get(name)?))));
    Json::Object(asked.collect())
}

/// A mail by the names that cases use.
fn mail(mail: &CapturedMail) -> Json {
    let sender = mail.from.rsplit_once('<').map_or(mail.from.as_str(), |(_, address)| address.trim_end_matches('>'));
    let headers: Map<String, Json> =
        mail.headers.iter().map(|(name, value)| (name.clone(), Json::String(value.clone()))).collect();
    let attachments: Vec<&str> = mail.attachments.iter().map(|file| file.name.as_str()).collect();
    json!({
        "from": mail.from, "sender": sender, "to": mail.to, "cc": mail.cc, "bcc": mail.bcc, "reply-to": mail.reply_to,
        "subject": mail.subject, "text": mail.text, "html": mail.html, "key": mail.key, "headers": headers,
        "attachments": attachments,
    })
}

fn said_mail(mail: &Json) -> String {
    let to: Vec<&Json> = ["to", "cc", "bcc"].iter().filter_map(|list| mail.get(list)?.as_array()).flatten().collect();
    let to: Vec<&str> = to.into_iter().filter_map(Json::as_str).collect();
    format!("to = {}\nsubject = {}", json!(to), mail.get("subject").unwrap_or(&Json::Null))
}

/// A published event by the names that cases use, with when it is due.
fn event(run: &Run, leaving: &Leaving) -> Json {
    let event = &leaving.event;
    let due = leaving.due.unwrap_or(run.at);
    let data = event.data.as_ref().map(|data| {
        let read = event.has_json_data().then(|| serde_json::from_slice(data).ok()).flatten();
        read.unwrap_or_else(|| Json::String(String::from_utf8_lossy(data).into_owned()))
    });
    let extensions: Map<String, Json> =
        event.extensions.iter().map(|(name, value)| (name.clone(), Json::String(value.clone()))).collect();
    json!({
        "queue": if leaving.own { crate::config::PublishGrant::OWN } else { leaving.queue.as_str() },
        "id": event.id, "source": event.source, "type": event.kind, "subject": event.subject, "time": event.time,
        "datacontenttype": event.datacontenttype, "dataschema": event.dataschema, "data": data, "extensions": extensions,
        "after": fmt_duration(due.since(run.at)), "at": due.to_string(),
    })
}

/// A request by the names that cases use.
fn request(asked: &Asked) -> Json {
    let headers: Map<String, Json> =
        asked.headers.iter().map(|(name, value)| (name.clone(), Json::String(value.clone()))).collect();
    let body = String::from_utf8_lossy(&asked.body);
    let json: Option<Json> = serde_json::from_slice(&asked.body).ok();
    json!({ "method": asked.method, "url": asked.url, "headers": headers, "body": body, "json": json })
}

fn said_request(asked: &Json) -> String {
    let told = ["method", "url", "body"].iter().filter_map(|name| Some(format!("{name} = {}", asked.get(name)?)));
    told.collect::<Vec<_>>().join("\n")
}

fn said_event(event: &Json) -> String {
    let told = ["queue", "type", "subject", "after", "data"].iter().filter_map(|name| {
        let value = event.get(name).filter(|value| !value.is_null() && *value != "0s")?;
        Some(format!("{name} = {value}"))
    });
    told.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;

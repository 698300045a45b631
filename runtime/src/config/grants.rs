//! `[handler.*.grants]`. What a grant permits at run time is judged by the part that holds the thing granted.

use std::collections::BTreeSet;

use lettre::Address;
use lettre::message::Mailbox;

use super::queues::undefined;
use super::section::Section;
use super::values::{Form, RATE, rate};
use super::{EmailGrant, Grants, PublishGrant, buckets, http_grant, relay};

const RELAY: Form =
    Form::new("a mail relay", "such as `smtp://user:${SMTP_PASSWORD}@host:587`, `smtps://host:465` or `file:./outbox`");
const FROM: Form = Form::new("a sender", "such as `QA <noreply@example.com>`");
const TO: Form = Form::new("a list of recipients", "such as `[\"ann@example.com\", \"*@example.com\"]`; `\"*\"` is anybody");
const RECIPIENT: Form = Form::new("an address or a pattern", "such as `ann@example.com`, `*@example.com` or `*`");

const PUBLISH: Form = Form::new("a list of queues", "such as `[\"events\", \"self\"]`; `\"self\"` is the handler itself");

/// Reads the grants of a handler; `queues` are those that are defined.
pub(super) fn read(section: &mut Section<'_, '_>, queues: &BTreeSet<String>) -> Grants {
    section.later(&["files", "env", "args", "secrets"]);
    Grants {
        email: section.optional("email", email).flatten(),
        publish: publish(section, queues),
        http: http_grant::read(section),
        keyvalue: buckets::read(section),
    }
}

fn publish(section: &mut Section<'_, '_>, queues: &BTreeSet<String>) -> Option<PublishGrant> {
    let field = section.take("publish")?;
    let items = section.reader.list(&field, &PUBLISH)?;
    if items.is_empty() {
        let note = "without a queue nothing can be published: take the grant out instead".to_owned();
        section.reader.refuse(&field, format!("`{}` is an empty list", field.key), PUBLISH.expected(), Some(note));
    }
    let known: BTreeSet<String> = queues.iter().cloned().chain([PublishGrant::OWN.to_owned()]).collect();
    let mut grant = PublishGrant::default();
    for item in &items {
        let Some(name) = section.reader.parse(item, &PUBLISH, |text| Ok(text.to_owned())) else { continue };
        if grant.queues.contains(&name) || (grant.own && name == PublishGrant::OWN) {
            section.reader.refuse(item, format!("`{}` names a queue twice", item.key), "each queue once".to_owned(), None);
        } else if name == PublishGrant::OWN && queues.contains(&name) {
            let message = format!("`{}` names a queue and the handler itself by one name", item.key);
            section.reader.refuse(item, message, "another name for the queue".to_owned(), None);
        } else if name == PublishGrant::OWN {
            grant.own = true;
        } else if queues.contains(&name) {
            grant.queues.push(name);
        } else {
            let finding = undefined(&item.key, &name, &known);
            section.reader.report(&item.node.place, finding);
        }
    }
    Some(grant)
}

fn email(section: &mut Section<'_, '_>) -> Option<EmailGrant> {
    let relay = match section.take("relay") {
        Some(field) => {
            let base = section.reader.base(&field);
            section.reader.parse(&field, &RELAY, |text| relay::parse(text, &base))
        }
        None => {
            section.missing("relay", &RELAY);
            None
        }
    };
    let from = match section.take("from") {
        Some(field) => section.reader.parse(&field, &FROM, sender),
        None => {
            section.missing("from", &FROM);
            None
        }
    };
    let to = recipients(section);
    let rate = section.parsed("rate", &RATE, rate);
    Some(EmailGrant { relay: relay?, from: from?, to: to?, rate })
}

fn sender(text: &str) -> Result<String, String> {
    match text.parse::<Mailbox>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) if text.contains(',') && !text.contains('"') => {
            Err("a name with a comma stands in quotes; there is one sender".to_owned())
        }
        Err(_) => Err(String::new()),
    }
}

fn recipients(section: &mut Section<'_, '_>) -> Option<Vec<String>> {
    let Some(field) = section.take("to") else {
        section.missing("to", &TO);
        return None;
    };
    let items = section.reader.list(&field, &TO)?;
    if items.is_empty() {
        let note = "without recipients nothing can be sent: take the grant out instead".to_owned();
        section.reader.refuse(&field, format!("`{}` is an empty list", field.key), TO.expected(), Some(note));
    }
    Some(items.iter().filter_map(|item| section.reader.parse(item, &RECIPIENT, recipient)).collect())
}

fn recipient(text: &str) -> Result<String, String> {
    let fits = match text.strip_prefix("*@") {
        // Any address of the domain: one that stands for all of them has to be an address.
        Some(domain) => !domain.contains('*') && Address::new("anybody", domain).is_ok(),
        None => text == "*" || (!text.contains('*') && text.parse::<Address>().is_ok()),
    };
    if fits {
        return Ok(text.to_owned());
    }
    Err(match text.strip_prefix('@') {
        Some(domain) => format!("did you mean `*@{domain}`?"),
        None if text.parse::<Mailbox>().is_ok() => "an address stands here without a name".to_owned(),
        None => String::new(),
    })
}

//! From a rule and an event to the messages that are sent.

use weir_sdk::email::Message;
use weir_sdk::prelude::*;

use crate::path::Found;
use crate::recipients::{self, Recipient};
use crate::rules::{Mail, Rule};
use crate::template::{Form, Scope, Templates};
use crate::{headers, locale};

/// The event in hand, and what the handler's configuration says for all rules.
pub(crate) struct Context<'a> {
    /// The event.
    pub(crate) event: &'a Event,
    /// `sender-name`.
    pub(crate) sender_name: Option<&'a str>,
    /// `locale`: what a rule falls back to that has no default of its own.
    pub(crate) locale: Option<&'a str>,
}

/// The messages of one rule: one for all recipients, or one for each.
///
/// # Errors
/// A reject that names the key of the rule and the path in the event.
pub(crate) fn messages(rule: &Rule<'_>, context: &Context<'_>) -> Result<Vec<Message>> {
    let event = context.event;
    let [to, cc, bcc, reply_to] = [("to", &rule.to), ("cc", &rule.cc), ("bcc", &rule.bcc), ("reply-to", &rule.reply_to)]
        .map(|(key, entries)| recipients::find(key, entries, event));
    let (to, cc, bcc, reply_to) = (to?, cc?, bcc?, reply_to?);
    if to.is_empty() && cc.is_empty() && bcc.is_empty() {
        log::info!("rule `{}`: nobody to write to", rule.name);
        return Ok(Vec::new());
    }
    let asked = match rule.locale.map(|path| path.find(event)) {
        Some(Some(Found::Text(text))) => Some(text),
        _ => None,
    };
    let chosen = locale::choose(&[asked, rule.default_locale, context.locale], &rule.mails);
    let (locale, mail) = chosen.ok_or_else(|| reject("`mail` is empty"))?;
    let writer = Writer { rule, locale, mail: *mail, sender: context.sender_name, templates: Templates::new() };
    let scope = Scope::new(event, locale, context.sender_name.unwrap_or_default());

    let groups: Vec<&[Recipient]> = if rule.separate { to.chunks(1).collect() } else { vec![&to] };
    let write = |group: &&[Recipient]| {
        let mut message = writer.write(group, &scope)?;
        message.cc = cc.iter().map(Recipient::address).collect();
        message.bcc = bcc.iter().map(Recipient::address).collect();
        message.reply_to = reply_to.iter().map(Recipient::address).collect();
        Ok(message)
    };
    groups.iter().map(write).collect()
}

/// What can be known of a rule's templates without an event.
pub(crate) fn check(rule: &Rule<'_>) -> Result<(), String> {
    let templates = Templates::new();
    for (key, form, source) in [("thread", Form::Text, rule.thread), ("unsubscribe", Form::Address, rule.unsubscribe)] {
        source.map_or(Ok(()), |source| templates.check(key, form, source))?;
    }
    for (name, source) in &rule.headers {
        templates.check(&format!("headers.{name}"), Form::Text, source)?;
    }
    for (locale, mail) in &rule.mails {
        templates.check(&format!("mail.{locale}.subject"), Form::Text, mail.subject)?;
        for (part, form, source) in [("text", Form::Text, mail.text), ("html", Form::Html, mail.html)] {
            source.map_or(Ok(()), |source| templates.check(&format!("mail.{locale}.{part}"), form, source))?;
        }
    }
    let Some(layout) = &rule.layout else { return Ok(()) };
    layout.text.map_or(Ok(()), |source| templates.check("layout.text", Form::Text, source))?;
    layout.html.map_or(Ok(()), |source| templates.check("layout.html", Form::Html, source))
}

struct Writer<'a> {
    rule: &'a Rule<'a>,
    locale: &'a str,
    mail: Mail<'a>,
    sender: Option<&'a str>,
    templates: Templates,
}

impl Writer<'_> {
    fn write(&self, to: &[Recipient], scope: &Scope) -> Result<Message> {
        let scope = match to.first() {
            Some(first) => scope.to(&first.email, &headers::line(&first.name)),
            None => scope.to("", ""),
        };
        let key = |part: &str| format!("mail.{}.{part}", self.locale);
        let subject = headers::line(&self.templates.render(&key("subject"), Form::Text, self.mail.subject, &scope)?);
        let layout = self.rule.layout.as_ref();
        let part = |part: &str, form, source: Option<&str>, layout: Option<&str>| -> Result<Option<String>> {
            let Some(source) = source else { return Ok(None) };
            let content = self.templates.render(&key(part), form, source, &scope)?;
            let Some(layout) = layout else { return Ok(Some(content)) };
            let scope = scope.content(form, &subject, content);
            self.templates.render(&format!("layout.{part}"), form, layout, &scope).map(Some)
        };
        let text = part("text", Form::Text, self.mail.text, layout.and_then(|layout| layout.text))?;
        let html = part("html", Form::Html, self.mail.html, layout.and_then(|layout| layout.html))?;
        let addresses: Vec<&str> = to.iter().map(|recipient| recipient.email.as_str()).collect();
        Ok(Message {
            sender_name: self.sender.map(headers::line).filter(|name| !name.is_empty()),
            to: to.iter().map(Recipient::address).collect(),
            subject,
            text: text.map(|text| text.replace(|c: char| headers::hidden(c) && !"\n\t".contains(c), "")),
            html,
            headers: self.headers(&scope)?,
            key: Some(format!("{}: {}", self.rule.name, addresses.join(", "))),
            ..Message::default()
        })
    }

    fn headers(&self, scope: &Scope) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        if let Some(source) = self.rule.thread {
            all.extend(headers::thread(&self.templates.render("thread", Form::Text, source, scope)?));
        }
        if let Some(source) = self.rule.unsubscribe {
            let address = self.templates.render("unsubscribe", Form::Address, source, scope)?;
            all.extend(headers::unsubscribe(&address, self.rule.one_click).map_err(reject)?);
        }
        for (name, source) in &self.rule.headers {
            let value = self.templates.render(&format!("headers.{name}"), Form::Text, source, scope)?;
            all.push(((*name).to_owned(), headers::line(&value)));
        }
        Ok(all)
    }
}

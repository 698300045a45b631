//! From a rule and an event to the messages that are sent.

use weir_sdk::email::Message;
use weir_sdk::prelude::*;

use crate::path::Found;
use crate::recipients::{Recipient, Recipients};
use crate::rules::{Mail, Rule};
use crate::template::{Form, Scope, Templates};
use crate::{headers, locale};

/// What the handler's configuration says for all rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// `sender-name`.
    pub(crate) sender_name: Option<&'a str>,
    /// `locale`: what a rule falls back to that has no default of its own.
    pub(crate) locale: Option<&'a str>,
}

/// What a mail is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The event; of a digest, the last one.
    pub(crate) event: &'a Event,
    /// All events that a digest shows.
    pub(crate) events: &'a [Event],
    /// How many there are, also those that it does not show.
    pub(crate) count: usize,
    /// To whom; none: to whom the rule says.
    pub(crate) to: Option<&'a Recipients>,
    /// Told apart by this from other mails of the rule to the same recipients about the event in hand.
    pub(crate) part: &'a str,
}

impl<'a> Subject<'a> {
    /// Of an event that is not gathered.
    pub(crate) fn event(event: &'a Event) -> Self {
        Subject { event, events: std::slice::from_ref(event), count: 1, to: None, part: "" }
    }
}

/// The messages of one rule: one for all recipients, or one for each.
///
/// # Errors
/// A reject that names the key of the rule and the path in the event.
pub(crate) fn messages(rule: &Rule<'_>, about: &Subject<'_>, context: &Context<'_>) -> Result<Vec<Message>> {
    let event = about.event;
    let groups = about.to.map_or_else(|| Recipients::find(rule, event), |to| Ok(vec![to.clone()]))?;
    if groups.is_empty() {
        log::info!("rule `{}`: nobody to write to", rule.name);
        return Ok(Vec::new());
    }
    let asked = match rule.locale.map(|path| path.find(event)) {
        Some(Some(Found::Text(text))) => Some(text),
        _ => None,
    };
    let chosen = locale::choose(&[asked, rule.default_locale, context.locale], &rule.mails);
    let (locale, mail) = chosen.ok_or_else(|| reject("`mail` is empty"))?;
    let templates = Templates::new(rule.is_digest());
    let writer = Writer { rule, locale, mail: *mail, sender: context.sender_name, templates, part: about.part };
    let mut scope = Scope::new(event, locale, context.sender_name.unwrap_or_default());
    if rule.is_digest() {
        scope = scope.events(about.events, about.count);
    }
    groups.iter().map(|group| writer.write(group, &scope)).collect()
}

/// What can be known of a rule's templates without an event.
pub(crate) fn check(rule: &Rule<'_>) -> Result<(), String> {
    let templates = Templates::new(rule.is_digest());
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
    part: &'a str,
}

impl Writer<'_> {
    fn write(&self, group: &Recipients, scope: &Scope) -> Result<Message> {
        let scope = match group.to.first() {
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
        let list = |list: &[Recipient]| list.iter().map(Recipient::address).collect();
        let addresses: Vec<&str> = group.to.iter().map(|recipient| recipient.email.as_str()).collect();
        Ok(Message {
            sender_name: self.sender.map(headers::line).filter(|name| !name.is_empty()),
            to: list(&group.to),
            cc: list(&group.cc),
            bcc: list(&group.bcc),
            reply_to: list(&group.reply_to),
            subject,
            text: text.map(|text| text.replace(|c: char| headers::hidden(c) && !"\n\t".contains(c), "")),
            html,
            headers: self.headers(&scope)?,
            key: Some(format!("{}: {}{}", self.rule.name, addresses.join(", "), self.part)),
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

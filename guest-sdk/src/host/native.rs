//! What stands in for the server while a handler runs in `cargo test`: one host a thread, set up by [`crate::testing`].
//!
//! It refuses what the server refuses about the shape of a message or an event. Grants are the server's alone: they are not checked here.

pub(crate) mod buckets;

use std::cell::RefCell;
use std::collections::BTreeMap;

use self::buckets::Buckets;
use crate::email::{Error, Message};
use crate::http;
use crate::keyvalue;
use crate::log::Level;
use crate::publish::{self, Draft};
use crate::testing::{Answers, Log, Published};
use crate::{Bytes, Event};

thread_local! {
    static HOST: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// What the handler that runs on this thread can reach, and what it did.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) mail_error: Option<Error>,
    pub(crate) mails: Vec<(u32, Message)>,
    pub(crate) publish_error: Option<publish::Error>,
    pub(crate) keyvalue_error: Option<keyvalue::Error>,
    pub(crate) buckets: Buckets,
    /// In a self-test nothing is written.
    pub(crate) probed: bool,
    pub(crate) published: Vec<(u32, Published)>,
    pub(crate) answers: Answers,
    /// With the item in which it was made.
    pub(crate) requests: Vec<(Option<u32>, http::Request)>,
    /// With the item in which it was logged.
    pub(crate) logs: Vec<(Option<u32>, Log)>,
    /// Messages sent to the same recipients in this call: the identity of those without a key (events.wit).
    pub(crate) unkeyed: BTreeMap<(u32, String), u32>,
    /// Whether it is a batch, also of one: what is sent has to belong to an item.
    pub(crate) batch: bool,
    /// Identities of the events by item, 0 for one event; and Message-IDs by them and the message's own identity, kept between runs.
    pub(crate) events: Vec<String>,
    pub(crate) sent: BTreeMap<(String, String), String>,
}

/// Runs `call` with this host, and gives the host back with what was done; also takes it away if `call` panics.
pub(crate) fn with<T>(state: State, call: impl FnOnce() -> T) -> (T, State) {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            HOST.with_borrow_mut(|host| *host = None);
        }
    }
    HOST.with_borrow_mut(|host| *host = Some(state));
    let _reset = Reset;
    let answer = call();
    let state = HOST.with_borrow_mut(Option::take).unwrap_or_default();
    (answer, state)
}

/// What runs on this thread, if anything does.
pub(crate) fn with_state<T>(use_it: impl FnOnce(&mut State) -> T) -> Option<T> {
    HOST.with_borrow_mut(|host| host.as_mut().map(use_it))
}

pub(crate) fn config_get(key: &str) -> Option<String> {
    HOST.with_borrow(|host| host.as_ref().and_then(|state| state.config.get(key).cloned()))
}

pub(crate) fn log(level: Level, context: &str, message: &str) {
    HOST.with_borrow_mut(|host| {
        if let Some(state) = host {
            state.logs.push((super::item(), Log { level, context: context.to_owned(), message: message.to_owned() }));
        }
    });
}

pub(crate) fn send(message: Message) -> Result<String, Error> {
    HOST.with_borrow_mut(|host| match host {
        Some(state) => state.send(message),
        None => Err(Error::Denied("no mail outside of `weir_sdk::testing::Host::run`".to_owned())),
    })
}

pub(crate) fn publish(queue: &str, draft: Draft) -> Result<(), publish::Error> {
    HOST.with_borrow_mut(|host| match host {
        Some(state) => state.publish(queue, draft),
        None => Err(publish::Error::Denied("nothing is published outside of `weir_sdk::testing::Host::run`".to_owned())),
    })
}

pub(crate) fn request(request: http::Request) -> Result<http::Response, http::Error> {
    // Outside of the borrow: what answers is the test's own.
    let answers = HOST.with_borrow_mut(|host| {
        host.as_mut().map(|state| {
            state.requests.push((super::item(), request.clone()));
            state.answers.clone()
        })
    });
    let Some(answers) = answers else {
        return Err(http::Error::Denied("no request outside of `weir_sdk::testing::Host::run`".to_owned()));
    };
    let mut response = answers.answer(&request)?;
    response.body.truncate(request.wanted.unwrap_or(usize::MAX));
    Ok(response)
}

impl State {
    fn publish(&mut self, queue: &str, draft: Draft) -> Result<(), publish::Error> {
        if let Some(error) = &self.publish_error {
            return Err(error.clone());
        }
        let item = self.item("publish").map_err(publish::Error::Invalid)?;
        check_event(&draft.event)?;
        self.published.push((item, Published { queue: queue.to_owned(), event: draft.event, due: draft.due }));
        Ok(())
    }

    fn send(&mut self, message: Message) -> Result<String, Error> {
        let item = self.item("send").map_err(Error::Invalid)?;
        let event = self.events.get(item as usize).cloned().unwrap_or_default();
        let identity = (event, self.identity(item, &message));
        if let Some(first) = self.sent.get(&identity) {
            return Ok(first.clone());
        }
        if let Some(error) = &self.mail_error {
            return Err(error.clone());
        }
        check(&message)?;
        let id = format!("<{}@weir.test>", self.sent.len() + 1);
        self.sent.insert(identity, id.clone());
        self.mails.push((item, message));
        Ok(id)
    }

    /// The item that what is sent belongs to.
    fn item(&self, name: &str) -> Result<u32, String> {
        match super::item() {
            None if self.batch => Err(format!("`{name}` names no item: in a batch, call it in `Item::handle` or `Item::within`")),
            item => Ok(item.unwrap_or_default()),
        }
    }

    fn identity(&mut self, item: u32, message: &Message) -> String {
        if let Some(key) = &message.key {
            return format!("key {key}");
        }
        let recipients = format!("to {:?} cc {:?} bcc {:?}", message.to, message.cc, message.bcc);
        let before = self.unkeyed.entry((item, recipients.clone())).or_default();
        *before += 1;
        format!("{recipients} {before}")
    }
}

fn check_event(event: &Event<Bytes>) -> Result<(), publish::Error> {
    const CORE: [&str; 9] = ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data"];
    let invalid = |text: String| Err(publish::Error::Invalid(text));
    if event.kind.is_empty() {
        return invalid("attribute `type` is missing or empty".to_owned());
    }
    for (at, (name, _)) in event.extensions.iter().enumerate() {
        let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !valid || CORE.contains(&name.as_str()) {
            return invalid(format!("attribute `{}` is no name of an extension (expected a-z and 0-9)", name.escape_debug()));
        }
        if name.starts_with("weir") {
            return invalid(format!("attribute `{name}` is Weir's own and can't be set from outside"));
        }
        if event.extensions.iter().take(at).any(|(before, _)| before == name) {
            return invalid(format!("attribute `{name}` is given twice"));
        }
    }
    let json = event.datacontenttype.as_deref().is_none_or(crate::data::is_json) && !event.data.is_empty();
    match serde_json::from_slice::<serde::de::IgnoredAny>(&event.data) {
        Err(error) if json => invalid(format!("`data` is not JSON: {error}")),
        _ => Ok(()),
    }
}

fn check(message: &Message) -> Result<(), Error> {
    let invalid = |text: String| Err(Error::Invalid(text));
    let breaks = |text: &str| text.contains(['\r', '\n']);
    let lists = [("to", &message.to), ("cc", &message.cc), ("bcc", &message.bcc), ("reply-to", &message.reply_to)];
    for (field, addresses) in lists {
        if let Some(wrong) = addresses.iter().find(|address| breaks(address) || !address.contains('@')) {
            return invalid(format!("`{field}`: `{}` is not an address", wrong.escape_debug()));
        }
    }
    if message.to.is_empty() && message.cc.is_empty() && message.bcc.is_empty() {
        return invalid("no recipient (expected one in `to`, `cc` or `bcc`)".to_owned());
    }
    if message.text.is_none() && message.html.is_none() {
        return invalid("neither `text` nor `html` is given".to_owned());
    }
    if breaks(&message.subject) || message.sender_name.as_deref().is_some_and(breaks) {
        return invalid("`subject` or `sender-name` has a line break".to_owned());
    }
    match message.headers.iter().find(|(name, value)| breaks(name) || breaks(value)) {
        Some((name, _)) => invalid(format!("header `{}` has a line break", name.escape_debug())),
        None => Ok(()),
    }
}

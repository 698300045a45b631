//! `weir:events/email`: checks what is counted and hands the message to the handler's mailer (`mail.rs`).

use std::time::{Duration, Instant};

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::mail::{self, MailError, MailRun};
use crate::outcome::Limit;
use crate::sandbox::state::{Names, NotInHand, State};

#[derive(ComponentType, Lift)]
#[component(record)]
struct Attachment {
    name: String,
    #[component(name = "content-type")]
    content_type: String,
    content: Vec<u8>,
    #[component(name = "content-id")]
    content_id: Option<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Message {
    #[component(name = "sender-name")]
    sender_name: Option<String>,
    to: Vec<String>,
    cc: Vec<String>,
    bcc: Vec<String>,
    #[component(name = "reply-to")]
    reply_to: Vec<String>,
    subject: String,
    text: Option<String>,
    html: Option<String>,
    attachments: Vec<Attachment>,
    headers: Vec<(String, String)>,
    key: Option<String>,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "invalid")]
    Invalid(String),
    #[component(name = "rejected")]
    Rejected(String),
    #[component(name = "unavailable")]
    Unavailable(String),
}

/// A call over the limit `requests`: it traps, so that a handler that ignores errors is not acknowledged with a mail missing.
#[derive(Debug, thiserror::Error)]
#[error("made more requests than its limit `requests`")]
pub(super) struct OverRequests;

pub(crate) fn add(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("weir:events/email@0.1.0")?;
    instance.func_wrap_async("send", |store: StoreContextMut<'_, State>, (message,): (Message,)| {
        Box::new(async move { Ok((send(store, None, message).await?,)) })
    })?;
    instance.func_wrap_async("send-for", |store: StoreContextMut<'_, State>, (index, message): (u32, Message)| {
        Box::new(async move { Ok((send(store, Some(index), message).await?,)) })
    })
}

async fn send(
    mut store: StoreContextMut<'_, State>,
    item: Option<u32>,
    message: Message,
) -> wasmtime::Result<Result<String, Error>> {
    let state = store.data_mut();
    let most = state.limits.requests;
    if state.requests >= most {
        state.over.get_or_insert(Limit { name: "requests", value: u64::from(most) });
        return Err(OverRequests.into());
    }
    state.requests += 1;
    let held = match state.hand.held(item, NAMES) {
        Ok((_, held)) => held,
        Err(NotInHand::Invalid(text)) => return Ok(Err(Error::Invalid(text))),
        Err(NotInHand::Probed) => return Ok(Err(probed())),
    };
    let Some(mailer) = state.setup.mailer.clone() else { return Ok(Err(probed())) };
    let bound = call_bound(state.deadline, Instant::now());
    let run = held.mail.get_or_insert_with(|| MailRun::new(&held.event));
    let sent = mailer.send(run, &message.into(), bound).await;
    if let Err(MailError::Unavailable(reason)) = &sent {
        let state = store.data_mut();
        // In a batch it is the outside failure of that item.
        let outside = match state.hand.held(item, NAMES) {
            Ok((_, held)) if item.is_some() => &mut held.outside,
            _ => &mut state.outside,
        };
        outside.get_or_insert_with(|| format!("mail: {reason}"));
    }
    Ok(sent.map_err(Error::from))
}

/// As [`Hand::held`](crate::sandbox::state::Hand::held) has them.
const NAMES: Names = ("send", "send-for");

fn probed() -> Error {
    Error::Denied("no mail leaves while a new version is probed".to_owned())
}

/// A host call may take nine tenths of the time that is left (sandbox.md §3): a relay that hangs is `host`, not `deadline`.
pub(super) fn call_bound(deadline: Instant, now: Instant) -> Duration {
    deadline.saturating_duration_since(now) / 10 * 9
}

impl From<MailError> for Error {
    fn from(error: MailError) -> Self {
        match error {
            MailError::Denied(text) => Self::Denied(text),
            MailError::Invalid(text) => Self::Invalid(text),
            MailError::Rejected(text) => Self::Rejected(text),
            MailError::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

impl From<Message> for mail::Message {
    fn from(message: Message) -> Self {
        let attachment = |file: Attachment| mail::Attachment {
            name: file.name,
            content_type: file.content_type,
            content: file.content,
            content_id: file.content_id,
        };
        Self {
            sender_name: message.sender_name,
            to: message.to,
            cc: message.cc,
            bcc: message.bcc,
            reply_to: message.reply_to,
            subject: message.subject,
            text: message.text,
            html: message.html,
            attachments: message.attachments.into_iter().map(attachment).collect(),
            headers: message.headers,
            key: message.key,
        }
    }
}

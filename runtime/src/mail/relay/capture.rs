//! Keeps messages that were handed over, for whoever tries a handler out. It has no rules of its own: what comes here has passed the
//! grant, the checks and the rate, and is written as it leaves.

use std::sync::{Mutex, PoisonError};

use lettre::message::Mailbox;
use serde::Serialize;

use crate::mail::Message;
use crate::mail::compose::Heading;
use crate::mail::content::Addresses;

/// Most bytes of messages kept whole: twenty mails, the default of `requests`, of some MiB each. Of those beyond it only the heading is
/// kept; how many there are is bounded by `requests`.
const CAPTURED_BYTES_MAX: usize = 64 << 20;

/// Messages that were handed over, in that order.
#[derive(Debug, Default)]
pub(in crate::mail) struct Captured {
    // Written by hand-overs, read when the trial is over; held for a push or a copy.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    mails: Vec<CapturedMail>,
    bytes: usize,
}

/// A mail as it would have left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CapturedMail {
    /// Its Message-ID.
    pub message_id: String,
    /// The sender, with the name that is shown.
    pub from: String,
    /// Bare addresses.
    pub to: Vec<String>,
    /// Copies.
    pub cc: Vec<String>,
    /// Copies that nobody sees.
    pub bcc: Vec<String>,
    /// Where answers go.
    pub reply_to: Vec<String>,
    /// The subject.
    pub subject: String,
    /// Plain text.
    pub text: Option<String>,
    /// HTML.
    pub html: Option<String>,
    /// Files, without their content.
    pub attachments: Vec<CapturedFile>,
    /// Headers of the guest's own.
    pub headers: Vec<(String, String)>,
    /// The guest's own name for it.
    pub key: Option<String>,
    /// The whole message in MIME; none where more is captured than is kept, and then text and html are missing too.
    pub message: Option<String>,
}

/// A file beside the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CapturedFile {
    /// File name.
    pub name: String,
    /// Media type.
    pub content_type: String,
    /// Bytes.
    pub size: usize,
    /// Content-ID.
    pub content_id: Option<String>,
}

impl CapturedMail {
    /// A message as values, before it is written as MIME.
    pub(in crate::mail) fn draft(heading: &Heading<'_>, addresses: &Addresses, message: &Message) -> Self {
        let bare = |list: &[Mailbox]| list.iter().map(|mailbox| mailbox.email.to_string()).collect();
        let sender = heading.sender;
        let name = message.sender_name.clone().filter(|name| !name.trim().is_empty()).or_else(|| sender.name.clone());
        let file = |file: &crate::mail::Attachment| CapturedFile {
            name: file.name.clone(),
            content_type: file.content_type.clone(),
            size: file.content.len(),
            content_id: file.content_id.clone(),
        };
        Self {
            message_id: heading.message_id.to_owned(),
            from: Mailbox::new(name, sender.email.clone()).to_string(),
            to: bare(&addresses.to),
            cc: bare(&addresses.cc),
            bcc: bare(&addresses.bcc),
            reply_to: bare(&addresses.reply_to),
            subject: message.subject.trim().to_owned(),
            text: message.text.clone(),
            html: message.html.clone(),
            attachments: message.attachments.iter().map(file).collect(),
            headers: message.headers.clone(),
            key: message.key.clone(),
            message: None,
        }
    }
}

impl Captured {
    /// Keeps a message that the relay has taken, its draft made whole with the MIME.
    pub(in crate::mail) fn keep(&self, mut mail: CapturedMail, content: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes = kept.bytes.saturating_add(content.len());
        if kept.bytes <= CAPTURED_BYTES_MAX {
            // Every byte of it is ASCII (compose.rs).
            mail.message = Some(String::from_utf8_lossy(content).into_owned());
        } else {
            (mail.text, mail.html) = (None, None);
        }
        kept.mails.push(mail);
    }

    /// Takes what was kept since the last time.
    pub(in crate::mail) fn take(&self) -> Vec<CapturedMail> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner)).mails
    }
}

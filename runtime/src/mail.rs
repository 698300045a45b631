//! Mail on behalf of handlers: grants, identity and relays. The guest names recipients and content; the host holds the rest.
//!
//! In the order in which a message meets them: `content` checks it, `address` parses and grants its recipients, `identity` names
//! it, `compose` writes it as MIME, `mailer` ties these together, `ledger` sees that it goes once, `rate` when, `relay` where.

mod address;
mod compose;
mod content;
mod identity;
mod ledger;
mod mailer;
mod rate;
mod relay;

pub use identity::MailRun;
pub use mailer::{GrantError, Mailer};
pub use relay::Relays;
pub use relay::capture::{CapturedFile, CapturedMail};

/// What a handler asks to be sent (events.wit, `email.message`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Message {
    /// Name shown before the granted sender address.
    pub sender_name: Option<String>,
    /// Addresses as in RFC 5322.
    pub to: Vec<String>,
    /// Copies.
    pub cc: Vec<String>,
    /// Copies that nobody sees.
    pub bcc: Vec<String>,
    /// Where answers go.
    pub reply_to: Vec<String>,
    /// The subject.
    pub subject: String,
    /// Plain text; at least one of text and html.
    pub text: Option<String>,
    /// HTML.
    pub html: Option<String>,
    /// Files.
    pub attachments: Vec<Attachment>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The guest's own name for this message within the event.
    pub key: Option<String>,
}

/// A file beside the text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// File name.
    pub name: String,
    /// Media type.
    pub content_type: String,
    /// The bytes.
    pub content: Vec<u8>,
    /// Content-ID for `cid:` links; none: an ordinary attachment.
    pub content_id: Option<String>,
}

/// Why a mail was not handed over (events.wit, `email.error`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// Not granted: names the recipient or header and the grant.
    #[error("{0}")]
    Denied(String),
    /// Cannot be a message: names the field.
    #[error("{0}")]
    Invalid(String),
    /// The relay refused it for good (5xx).
    #[error("{0}")]
    Rejected(String),
    /// The relay is away or said later (4xx), or the granted rate is used up: an outside failure.
    #[error("{0}")]
    Unavailable(String),
}

/// Text from outside as it may stand in a message for people: short, on one line.
fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

//! Mail. The handler names recipients and content; relay, credentials and sender address are the server's, and it checks every
//! recipient against the grant:
//!
//! ```toml
//! [handler.NAME.grants]
//! email = { relay = "file:./outbox", from = "QA <noreply@example.com>", to = ["*@example.com"] }
//! ```
//!
//! ```
//! use weir_sdk::prelude::*;
//!
//! fn welcome(event: Event<String>) -> Result {
//!     email::to(event.data)
//!         .subject("Welcome")
//!         .text("Good to have you.")
//!         .html("<p>Good to have you.</p>")
//!         .send()?;
//!     Ok(())
//! }
//! # use weir_sdk::testing;
//! # let run = testing::Host::new().run(welcome, testing::event("user.registered", "ann@example.com"));
//! # assert_eq!(run.mails[0].subject, "Welcome");
//! ```
//!
//! An event that is tried again does not send the same message twice: a message is known by its [`key`](Message::key), or without one
//! by its recipients and their order. Give a key when the number or order of your messages may differ between attempts.

use std::fmt;

/// A mail. Begin with [`to`], end with [`send`](Message::send).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Name shown before the granted sender address.
    pub sender_name: Option<String>,
    /// Addresses as in RFC 5322: `ann@example.com` or what [`address`] gives. At least one of to, cc, bcc.
    pub to: Vec<String>,
    /// Copies.
    pub cc: Vec<String>,
    /// Copies that the others do not see.
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
    /// Further headers, for example In-Reply-To or List-Unsubscribe. Those that Weir writes itself are invalid here.
    pub headers: Vec<(String, String)>,
    /// Names this message within the event: a retried event does not send the same key twice.
    pub key: Option<String>,
}

/// A file beside the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// File name.
    pub name: String,
    /// Media type.
    pub content_type: String,
    /// The bytes.
    pub content: Vec<u8>,
    /// Content-ID for `cid:` links from the HTML; none: an ordinary attachment.
    pub content_id: Option<String>,
}

/// Why a mail was not handed over. `?` makes `Unavailable` a retry and the others a reject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Not granted: names the recipient or header and the grant.
    Denied(String),
    /// Cannot be a message: names the field.
    Invalid(String),
    /// The relay refused it for good.
    Rejected(String),
    /// The relay is away or said later, or the granted rate is used up.
    Unavailable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Denied(text) | Error::Invalid(text) | Error::Rejected(text) | Error::Unavailable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// A message to this address.
#[must_use]
pub fn to(address: impl Into<String>) -> Message {
    Message::default().to(address)
}

/// `Name <address>`, quoted where the name needs it; the address alone when the name is blank.
///
/// Line breaks and other control characters in the name become spaces, so that a name from an event can't add a header.
///
/// ```
/// use weir_sdk::email::address;
///
/// assert_eq!(address("Ann Lee", "ann@example.com"), "Ann Lee <ann@example.com>");
/// assert_eq!(address("Lee, Ann \"A\"", "ann@example.com"), r#""Lee, Ann \"A\"" <ann@example.com>"#);
/// assert_eq!(address("  ", "ann@example.com"), "ann@example.com");
/// ```
#[must_use]
pub fn address(name: &str, address: &str) -> String {
    let name: Vec<&str> = name.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let name = name.join(" ");
    match name.as_str() {
        "" => address.to_owned(),
        name if name.chars().all(|c| c.is_alphanumeric() || c == ' ') => format!("{name} <{address}>"),
        name => format!("\"{}\" <{address}>", name.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

impl Message {
    /// Adds a recipient.
    #[must_use]
    pub fn to(mut self, address: impl Into<String>) -> Self {
        self.to.push(address.into());
        self
    }

    /// Adds a recipient of a copy.
    #[must_use]
    pub fn cc(mut self, address: impl Into<String>) -> Self {
        self.cc.push(address.into());
        self
    }

    /// Adds a recipient of a copy that the others do not see.
    #[must_use]
    pub fn bcc(mut self, address: impl Into<String>) -> Self {
        self.bcc.push(address.into());
        self
    }

    /// Adds an address for answers.
    #[must_use]
    pub fn reply_to(mut self, address: impl Into<String>) -> Self {
        self.reply_to.push(address.into());
        self
    }

    /// Sets the name shown before the granted sender address.
    #[must_use]
    pub fn sender_name(mut self, name: impl Into<String>) -> Self {
        self.sender_name = Some(name.into());
        self
    }

    /// Sets the subject.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// Sets the plain text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Sets the HTML. What comes from an event must be escaped by you.
    #[must_use]
    pub fn html(mut self, html: impl Into<String>) -> Self {
        self.html = Some(html.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn attach(mut self, name: impl Into<String>, content_type: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        let (name, content_type, content) = (name.into(), content_type.into(), content.into());
        self.attachments.push(Attachment { name, content_type, content, content_id: None });
        self
    }

    /// Names this message within the event: a retried event does not send the same key twice.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Hands the message to the relay and returns its Message-ID; the first one's if this message was already sent.
    ///
    /// # Errors
    /// When it is not granted, not a message, refused, or the relay is away.
    pub fn send(self) -> Result<String, Error> {
        crate::host::send(self)
    }
}

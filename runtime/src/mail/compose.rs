//! Writes a checked message as MIME, with lettre. Every byte of it is ASCII in lines that every relay takes: texts are 7bit,
//! quoted-printable or base64, attachments base64. A bare CR or LF never leaves (SMTP smuggling).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::address::Envelope;
use lettre::message::header::{
    Cc, ContentDisposition, ContentId, ContentTransferEncoding, ContentType, Date, From, Header, HeaderName, HeaderValue,
    MessageId, ReplyTo, To,
};
use lettre::message::{Body, Mailbox, Mailboxes, MessageBuilder, MultiPart, SinglePart};

use super::content::{self, Addresses};
use super::{Attachment, MailError, Message};
use crate::clock::Timestamp;

/// Longest line of text that is left as it is; RFC 5322 recommends 78.
const LINE_CHARS: usize = 78;
/// Longest word of a subject that is left as it is: it can't be folded.
const WORD_CHARS: usize = 60;
/// Bytes of text in one encoded word: 12 + 52 characters, which fits a line (RFC 2047, 2) beside any header name.
const ENCODED_WORD_BYTES: usize = 39;

/// What Weir adds to a message.
#[derive(Debug)]
pub(super) struct Heading<'a> {
    /// The granted sender; only the name may be the guest's.
    pub(super) sender: &'a Mailbox,
    pub(super) message_id: &'a str,
    pub(super) date: Timestamp,
}

/// The message as bytes, and to whom it goes.
pub(super) fn compose(heading: &Heading<'_>, addresses: Addresses, message: &Message) -> Result<(Envelope, Vec<u8>), MailError> {
    let odd = |error: &dyn std::fmt::Display| MailError::Invalid(format!("`message`: can't be written as MIME ({error})"));
    let mut recipients = Vec::new();
    for address in addresses.set() {
        recipients.push(address.parse().map_err(|error| odd(&error))?);
    }
    let envelope = Envelope::new(Some(heading.sender.email.clone()), recipients).map_err(|error| odd(&error))?;
    let builder = headers(heading, addresses, message)?.envelope(envelope.clone());
    let written = match body(message)? {
        Part::Single(part) => builder.singlepart(part),
        Part::Multi(parts) => builder.multipart(parts),
    };
    Ok((envelope, written.map_err(|error| odd(&error))?.formatted()))
}

fn headers(heading: &Heading<'_>, addresses: Addresses, message: &Message) -> Result<MessageBuilder, MailError> {
    let mut sender = heading.sender.clone();
    if let Some(name) = message.sender_name.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
        sender.name = Some(name.to_owned());
    }
    let date: SystemTime = UNIX_EPOCH + Duration::from_millis(heading.date.0);
    let list = |mailboxes: Vec<Mailbox>| mailboxes.into_iter().collect::<Mailboxes>();
    let mut builder = MessageBuilder::new()
        .header(From::from(Mailboxes::from(sender)))
        .header(Date::new(date))
        .header(MessageId::from(heading.message_id.to_owned()));
    builder = match (addresses.to.is_empty(), addresses.cc.is_empty()) {
        (false, _) => builder.header(To::from(list(addresses.to))),
        // RFC 5322 allows none, but mail without any visible recipient is often taken for spam.
        (true, true) => builder.raw_header(HeaderValue::new(To::name(), "undisclosed-recipients:;".to_owned())),
        (true, false) => builder,
    };
    if !addresses.cc.is_empty() {
        builder = builder.header(Cc::from(list(addresses.cc)));
    }
    if !addresses.reply_to.is_empty() {
        builder = builder.header(ReplyTo::from(list(addresses.reply_to)));
    }
    builder = builder.raw_header(subject(&message.subject));
    for (name, value) in &message.headers {
        let Ok(name) = HeaderName::new_from_ascii(name.clone()) else {
            return Err(MailError::Invalid(format!("`headers`: `{name}` is not a header's name")));
        };
        // One space is what any run of spaces means in a header, and a line made of spaces alone must not come about by folding.
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        builder = builder.raw_header(if value.is_ascii() { HeaderValue::new(name, value) } else { encoded(name, &value) });
    }
    Ok(builder)
}

/// The subject reads exactly as given: what a reader could take for an encoded word, or a fold would change, is encoded.
fn subject(text: &str) -> HeaderValue {
    let (name, text) = (HeaderName::new_from_ascii_str("Subject"), text.trim());
    let as_it_is =
        text.is_ascii() && !text.contains("=?") && !text.contains("  ") && text.split(' ').all(|word| word.len() <= WORD_CHARS);
    if as_it_is { HeaderValue::new(name, text.to_owned()) } else { encoded(name, text) }
}

/// Text as encoded words of RFC 2047, one a line.
fn encoded(name: HeaderName, text: &str) -> HeaderValue {
    let (mut words, mut word) = (Vec::new(), String::new());
    for char in text.chars() {
        if word.len() + char.len_utf8() > ENCODED_WORD_BYTES {
            words.push(std::mem::take(&mut word));
        }
        word.push(char);
    }
    words.push(word);
    let words: Vec<_> = words.iter().map(|word| format!("=?utf-8?b?{}?=", BASE64.encode(word))).collect();
    HeaderValue::dangerous_new_pre_encoded(name, text.to_owned(), words.join("\r\n "))
}

enum Part {
    Single(SinglePart),
    Multi(MultiPart),
}

impl Part {
    fn into(self, parts: MultiPart) -> MultiPart {
        match self {
            Self::Single(part) => parts.singlepart(part),
            Self::Multi(part) => parts.multipart(part),
        }
    }
}

/// mixed( alternative( text, related( html, inline… ) ), attachment… ), without the levels that would hold one part only.
fn body(message: &Message) -> Result<Part, MailError> {
    let (inline, attached): (Vec<_>, Vec<_>) = message.attachments.iter().partition(|attachment| attachment.content_id.is_some());
    let plain = message.text.as_deref().map(|content| text(content, ContentType::TEXT_PLAIN));
    let html = message.html.as_deref().map(|content| text(content, ContentType::TEXT_HTML));
    let mut body = match (plain, html) {
        (Some(plain), None) => related(plain, &inline)?,
        (None, Some(html)) => related(html, &inline)?,
        (Some(plain), Some(html)) => {
            let parts = MultiPart::alternative().build().singlepart(plain);
            Part::Multi(related(html, &inline)?.into(parts))
        }
        (None, None) => return Err(MailError::Invalid("`text`: neither text nor html".to_owned())),
    };
    if !attached.is_empty() {
        let mut parts = body.into(MultiPart::mixed().build());
        for attachment in attached {
            parts = parts.singlepart(file(attachment)?);
        }
        body = Part::Multi(parts);
    }
    Ok(body)
}

fn related(root: SinglePart, inline: &[&Attachment]) -> Result<Part, MailError> {
    if inline.is_empty() {
        return Ok(Part::Single(root));
    }
    let mut parts = MultiPart::related().build().singlepart(root);
    for attachment in inline {
        parts = parts.singlepart(file(attachment)?);
    }
    Ok(Part::Multi(parts))
}

/// A text with the plainest encoding that carries it through every relay.
fn text(content: &str, content_type: ContentType) -> SinglePart {
    // A lone CR is a line break to some readers and a smuggled end of the message to some relays.
    let content = content.replace("\r\n", "\n").replace('\r', "\n");
    let plain = |line: &str| {
        line.len() <= LINE_CHARS
            && !line.ends_with(' ')
            && line.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
    };
    let special = content.bytes().filter(|byte| !byte.is_ascii()).count();
    let encoding = if content.split('\n').all(plain) {
        ContentTransferEncoding::SevenBit
    } else if special <= content.len() / 6 {
        // Three characters for each special byte: beyond a sixth, base64 is shorter.
        ContentTransferEncoding::QuotedPrintable
    } else {
        ContentTransferEncoding::Base64
    };
    let part = SinglePart::builder().content_type(content_type);
    match Body::new_with_encoding(content, encoding) {
        Ok(body) => part.body(body),
        Err(bytes) => part.body(base64(&bytes)),
    }
}

fn file(attachment: &Attachment) -> Result<SinglePart, MailError> {
    let part = SinglePart::builder().content_type(content::content_type(&attachment.content_type)?);
    let name = attachment.name.trim();
    let part = match &attachment.content_id {
        Some(id) if name.is_empty() => part.header(ContentId::from(format!("<{id}>"))).header(ContentDisposition::inline()),
        Some(id) => part.header(ContentId::from(format!("<{id}>"))).header(ContentDisposition::inline_with_name(name)),
        None => part.header(ContentDisposition::attachment(name)),
    };
    Ok(part.body(base64(&attachment.content)))
}

/// Base64 in lines of 76, whatever the bytes: as 7bit, a file's lone line feeds would leave as they are.
fn base64(bytes: &[u8]) -> Body {
    const LINE: usize = 76;
    let encoded = BASE64.encode(bytes);
    let mut lines = String::with_capacity(encoded.len() + encoded.len() / LINE * 2 + 2);
    for (at, char) in encoded.chars().enumerate() {
        if at > 0 && at % LINE == 0 {
            lines.push_str("\r\n");
        }
        lines.push(char);
    }
    Body::dangerous_pre_encoded(lines.into_bytes(), ContentTransferEncoding::Base64)
}

#[cfg(test)]
mod tests;

//! What a message may hold: bounds, text that can't become a header, and the headers that are Weir's own. Pure checks; the MIME is
//! written in `compose.rs`.

use std::collections::BTreeSet;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;

use super::address::{self, NAME_CHARS_MAX, Pattern};
use super::{Attachment, MailError, Message, shown};

/// Most recipients of one message: what every relay must take (RFC 5321, 4.5.3.1.8).
const RECIPIENTS_MAX: usize = 100;
/// Most addresses of Reply-To: more has no use.
const REPLY_TO_MAX: usize = 10;
/// Most characters of a subject: no client shows more, and a line of mail ends at 998.
const SUBJECT_CHARS_MAX: usize = 998;
/// Most headers of the guest's own: threading, lists and marks take a dozen.
const HEADERS_MAX: usize = 50;
/// Most bytes of one header's value: room for the References of a long thread.
const HEADER_BYTES_MAX: usize = 4_096;
/// Most bytes without a space in a header's value: it can't be folded, and a line of mail ends at 998 (RFC 5322, 2.1.1).
const WORD_BYTES_MAX: usize = 900;
/// Longest name of a header: it shares the first line with the value.
const HEADER_NAME_MAX: usize = 64;
/// Most attachments of one message.
const ATTACHMENTS_MAX: usize = 50;
/// Most characters of an attachment's name: what file systems take.
const FILE_NAME_CHARS_MAX: usize = 255;
/// Most bytes of an attachment's media type and of its Content-ID.
const LABEL_BYTES_MAX: usize = 200;
/// Most bytes of the guest's key: it is only hashed.
const KEY_BYTES_MAX: usize = 1_024;
/// Most bytes of a whole message: many relays end at 20 to 25 MiB, and encoding adds a third.
const MESSAGE_BYTES_MAX: usize = 10 << 20;

/// Headers that Weir or a relay writes. A header of the guest's may have none of these names, nor begin with one of `RESERVED_STARTS`.
const RESERVED: [&str; 17] = [
    "from",
    "sender",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "return-path",
    "delivered-to",
    "envelope-to",
    "x-envelope-to",
    "x-original-to",
    "apparently-to",
    "authentication-results",
];
const RESERVED_STARTS: [&str; 6] = ["content-", "resent-", "received", "dkim-", "arc-", "x-weir-"];

/// The addresses of a message, parsed.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) to: Vec<Mailbox>,
    pub(super) cc: Vec<Mailbox>,
    pub(super) bcc: Vec<Mailbox>,
    pub(super) reply_to: Vec<Mailbox>,
}

impl Addresses {
    pub(super) fn parse(message: &Message) -> Result<Self, MailError> {
        let recipients = message.to.len() + message.cc.len() + message.bcc.len();
        if recipients == 0 {
            return invalid("`to`: no recipient [give at least one of to, cc and bcc]");
        }
        if recipients > RECIPIENTS_MAX {
            return invalid(format!("`to`: {recipients} recipients, at most {RECIPIENTS_MAX} in a message"));
        }
        if message.reply_to.len() > REPLY_TO_MAX {
            return invalid(format!("`reply-to`: {} addresses, at most {REPLY_TO_MAX}", message.reply_to.len()));
        }
        let parse = |field, texts: &[String]| texts.iter().map(|text| address::parse(field, text)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            to: parse("to", &message.to)?,
            cc: parse("cc", &message.cc)?,
            bcc: parse("bcc", &message.bcc)?,
            reply_to: parse("reply-to", &message.reply_to)?,
        })
    }

    fn recipients(&self) -> impl Iterator<Item = (&'static str, &Mailbox)> {
        let fields = [("to", &self.to), ("cc", &self.cc), ("bcc", &self.bcc)];
        fields.into_iter().flat_map(|(field, list)| list.iter().map(move |mailbox| (field, mailbox)))
    }

    /// The recipients' addresses, each once, sorted.
    pub(super) fn set(&self) -> BTreeSet<String> {
        self.recipients().map(|(_, mailbox)| mailbox.email.to_string()).collect()
    }

    /// Refuses recipients that no pattern of the grant allows.
    pub(super) fn granted(&self, handler: &str, patterns: &[Pattern]) -> Result<(), MailError> {
        for (field, Mailbox { email, .. }) in self.recipients() {
            if !patterns.iter().any(|pattern| pattern.matches(email)) {
                let allowed: Vec<_> = patterns.iter().map(ToString::to_string).collect();
                let allowed = if allowed.is_empty() { "nobody".to_owned() } else { allowed.join(", ") };
                let routed = if address::routed(email) {
                    "; `%`, `!` and `=?` before the `@` only where the grant spells them out"
                } else {
                    ""
                };
                return Err(MailError::Denied(format!(
                    "`{field}`: recipient `{email}` is not granted (`handler.{handler}.grants.email.to` allows {allowed}{routed})"
                )));
            }
        }
        Ok(())
    }
}

/// Checks everything of a message but its addresses.
pub(super) fn check(message: &Message) -> Result<(), MailError> {
    if message.text.is_none() && message.html.is_none() {
        return invalid("`text`: neither text nor html [give at least one]");
    }
    let bytes = bytes(message);
    if bytes > MESSAGE_BYTES_MAX {
        return invalid(format!("`attachments`: the message has {bytes} bytes, at most {MESSAGE_BYTES_MAX}"));
    }
    if let Some(name) = &message.sender_name {
        plain("sender-name", name, NAME_CHARS_MAX)?;
    }
    plain("subject", &message.subject, SUBJECT_CHARS_MAX)?;
    if message.key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
        return invalid(format!("`key`: longer than {KEY_BYTES_MAX} bytes"));
    }
    check_headers(&message.headers)?;
    check_attachments(&message.attachments)
}

/// Bytes of a message as the guest gave it: what it holds while it is under way.
pub(super) fn bytes(message: &Message) -> usize {
    let texts = [Some(&message.subject), message.text.as_ref(), message.html.as_ref(), message.sender_name.as_ref()];
    texts.into_iter().flatten().map(String::len).sum::<usize>()
        + message.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        + message.attachments.iter().map(|attachment| attachment.name.len() + attachment.content.len()).sum::<usize>()
}

fn invalid<T>(text: impl Into<String>) -> Result<T, MailError> {
    Err(MailError::Invalid(text.into()))
}

/// One line of text without control characters: a line break in a header is where the next header begins.
fn plain(field: &str, text: &str, chars_max: usize) -> Result<(), MailError> {
    if text.chars().any(|char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}')) {
        return invalid(format!("`{field}`: `{}` holds a line break or control character [one line of text]", shown(text)));
    }
    let chars = text.chars().count();
    if chars > chars_max {
        return invalid(format!("`{field}`: {chars} characters, at most {chars_max}"));
    }
    Ok(())
}

fn check_headers(headers: &[(String, String)]) -> Result<(), MailError> {
    if headers.len() > HEADERS_MAX {
        return invalid(format!("`headers`: {} of them, at most {HEADERS_MAX}", headers.len()));
    }
    let mut seen = BTreeSet::new();
    for (name, value) in headers {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > HEADER_NAME_MAX || !name.bytes().all(token) {
            let expected = format!("1 to {HEADER_NAME_MAX} letters, digits, `-`, `_` and `.`");
            return invalid(format!("`headers`: `{}` is not a header's name ({expected})", shown(name)));
        }
        let lower = name.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) || RESERVED_STARTS.iter().any(|start| lower.starts_with(start)) {
            return invalid(format!("`headers`: `{name}` is written by Weir or a relay and can't be given here"));
        }
        if !seen.insert(lower) {
            return invalid(format!("`headers`: `{name}` is given twice"));
        }
        plain(&format!("headers.{name}"), value, HEADER_BYTES_MAX)?;
        if value.trim().is_empty() {
            return invalid(format!("`headers.{name}`: empty"));
        }
        if value.len() > HEADER_BYTES_MAX || value.split(' ').any(|word| word.len() > WORD_BYTES_MAX) {
            return invalid(format!(
                "`headers.{name}`: longer than {HEADER_BYTES_MAX} bytes, or more than {WORD_BYTES_MAX} without a space"
            ));
        }
    }
    Ok(())
}

fn check_attachments(attachments: &[Attachment]) -> Result<(), MailError> {
    if attachments.len() > ATTACHMENTS_MAX {
        return invalid(format!("`attachments`: {} of them, at most {ATTACHMENTS_MAX}", attachments.len()));
    }
    let mut ids = BTreeSet::new();
    for attachment in attachments {
        plain("attachments.name", &attachment.name, FILE_NAME_CHARS_MAX)?;
        if attachment.name.trim().is_empty() && attachment.content_id.is_none() {
            return invalid("`attachments.name`: empty [an attachment without content-id needs a name]");
        }
        content_type(&attachment.content_type)?;
        let Some(id) = &attachment.content_id else { continue };
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+=~".contains(&byte);
        if id.is_empty() || id.len() > LABEL_BYTES_MAX || !id.bytes().all(valid) {
            let expected = "letters, digits and `-_.@+=~`, without `<` and `>`";
            return invalid(format!("`attachments.content-id`: `{}` is not a Content-ID ({expected})", shown(id)));
        }
        if !ids.insert(id) {
            return invalid(format!("`attachments.content-id`: `{id}` is given twice"));
        }
    }
    Ok(())
}

/// The media type of an attachment, as lettre writes it.
pub(super) fn content_type(text: &str) -> Result<ContentType, MailError> {
    let wrong = |why: &str| invalid(format!("`attachments.content-type`: `{}` {why}", shown(text)));
    if text.len() > LABEL_BYTES_MAX || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return wrong("is not a media type (such as `application/pdf`)");
    }
    let lower = text.trim_start().to_ascii_lowercase();
    if lower.starts_with("multipart/") || lower.starts_with("message/") {
        return wrong("is made of parts, which an attachment can't be [use `application/octet-stream`]");
    }
    match ContentType::parse(text) {
        Ok(parsed) => Ok(parsed),
        Err(_) => wrong("is not a media type (such as `application/pdf`)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message { to: vec!["a@example.com".to_owned()], text: Some("hi".to_owned()), ..Message::default() }
    }

    fn header(name: &str, value: &str) -> Message {
        Message { headers: vec![(name.to_owned(), value.to_owned())], ..message() }
    }

    fn attachment(name: &str, content_type: &str, content_id: Option<&str>) -> Message {
        let (name, content_type) = (name.to_owned(), content_type.to_owned());
        let attachment = Attachment { name, content_type, content: vec![1], content_id: content_id.map(str::to_owned) };
        Message { attachments: vec![attachment], ..message() }
    }

    fn check_invalid(message: &Message, field: &str) {
        match check(message) {
            Err(MailError::Invalid(text)) => {
                assert!(text.contains(field), "`{text}` should name `{field}`");
                assert!(!text.contains(['\r', '\n']), "{text:?}");
            }
            other => panic!("{message:?}: {other:?}"),
        }
    }

    #[test]
    fn useful_messages_pass() {
        check(&message()).unwrap();
        for (name, value) in [
            ("In-Reply-To", "<1@example.com>"),
            ("References", "<1@example.com> <2@example.com>"),
            ("List-Unsubscribe", "<https://example.com/u?id=1>"),
            ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
            ("Auto-Submitted", "auto-generated"),
            ("X-Tag", "größe"),
        ] {
            check(&header(name, value)).unwrap();
        }
        check(&attachment("ü.pdf", "application/pdf", None)).unwrap();
        check(&attachment("", "image/png", Some("logo@example.com"))).unwrap();
        check(&attachment("a.txt", "text/plain; charset=utf-8", None)).unwrap();
    }

    #[test]
    fn headers_that_are_weirs_or_no_headers_are_refused() {
        let own = "From SENDER to Cc bCC Reply-To Subject Date Message-Id MIME-Version Return-Path Content-Type content-anything \
                   Resent-To Received Received-SPF DKIM-Signature ARC-Seal X-Weir-Recipients Delivered-To Authentication-Results";
        for name in own.split_whitespace() {
            check_invalid(&header(name, "x"), name);
        }
        for name in ["", "A B", "A:B", "Bcc:", "A\r\nBcc", "A\nB", "Ä", "A\0", " Bcc", "Bcc ", "(x)", &"n".repeat(65)] {
            check_invalid(&header(name, "x"), "`headers`");
        }
        for value in [
            "",
            "  ",
            "a\r\nBcc: b@evil.test",
            "a\nb",
            "a\rb",
            "a\0b",
            "a\u{85}b",
            "a\u{2028}b",
            &"v".repeat(901),
            &"v ".repeat(2_500),
        ] {
            check_invalid(&header("X-A", value), "`headers.X-A`");
        }
        let twice = Message { headers: vec![("X-A".into(), "1".into()), ("x-a".into(), "2".into())], ..message() };
        check_invalid(&twice, "given twice");
    }

    #[test]
    fn text_that_could_become_a_header_is_refused() {
        for bad in ["a\r\nBcc: b@evil.test", "a\nb", "a\rb", "\0", "\u{7f}", "a\u{2028}b"] {
            check_invalid(&Message { subject: bad.to_owned(), ..message() }, "`subject`");
            check_invalid(&Message { sender_name: Some(bad.to_owned()), ..message() }, "`sender-name`");
            check_invalid(&attachment(bad, "text/plain", None), "`attachments.name`");
            check_invalid(&attachment("a", &format!("text/plain; name=\"{bad}\""), None), "`attachments.content-type`");
            check_invalid(&attachment("a", "text/plain", Some(bad)), "`attachments.content-id`");
        }
        for bad in ["", "a<b", "a>b", "a b", "ü"] {
            check_invalid(&attachment("a", "text/plain", Some(bad)), "`attachments.content-id`");
        }
        for bad in ["", "text", "multipart/mixed; boundary=x", "message/rfc822", " MULTIPART/mixed", "text/ü"] {
            check_invalid(&attachment("a", bad, None), "`attachments.content-type`");
        }
    }

    #[test]
    fn everything_is_bounded() {
        let long = |len: usize| "x".repeat(len);
        check_invalid(&Message { text: None, ..message() }, "`text`");
        check_invalid(&Message { subject: long(SUBJECT_CHARS_MAX + 1), ..message() }, "`subject`");
        check_invalid(&Message { sender_name: Some(long(NAME_CHARS_MAX + 1)), ..message() }, "`sender-name`");
        check_invalid(&Message { key: Some(long(KEY_BYTES_MAX + 1)), ..message() }, "`key`");
        check_invalid(&Message { text: Some(long(MESSAGE_BYTES_MAX + 1)), ..message() }, "bytes");
        let headers = (0..=HEADERS_MAX).map(|at| (format!("X-{at}"), "x".to_owned())).collect();
        check_invalid(&Message { headers, ..message() }, "`headers`");
        let one = attachment("a", "text/plain", None).attachments.remove(0);
        check_invalid(&Message { attachments: vec![one; ATTACHMENTS_MAX + 1], ..message() }, "`attachments`");
        let twice = attachment("a", "text/plain", Some("id")).attachments.remove(0);
        check_invalid(&Message { attachments: vec![twice; 2], ..message() }, "given twice");
    }

    #[test]
    fn recipients_are_counted_and_granted_by_field() {
        let patterns = [Pattern::parse("*@example.com").unwrap()];
        let none = Addresses::parse(&Message { to: Vec::new(), ..message() }).unwrap_err();
        assert!(none.to_string().contains("no recipient"), "{none}");
        let many = Message { bcc: vec!["a@example.com".to_owned(); RECIPIENTS_MAX], ..message() };
        assert!(matches!(Addresses::parse(&many), Err(MailError::Invalid(_))));
        for field in ["to", "cc", "bcc"] {
            let mut message = message();
            match field {
                "to" => &mut message.to,
                "cc" => &mut message.cc,
                _ => &mut message.bcc,
            }
            .push("b@evil.test".to_owned());
            let denied = Addresses::parse(&message).unwrap().granted("mailer", &patterns).unwrap_err();
            let expected = format!(
                "`{field}`: recipient `b@evil.test` is not granted (`handler.mailer.grants.email.to` allows `*@example.com`)"
            );
            assert_eq!(denied, MailError::Denied(expected));
        }
        let reply = Message { reply_to: vec!["b@evil.test".to_owned()], ..message() };
        Addresses::parse(&reply).unwrap().granted("mailer", &patterns).unwrap();
    }
}

//! What `compose` writes, read back with another library.

use mail_parser::{MessageParser, MimeHeaders, PartType};
use proptest::prelude::*;

use super::*;
use crate::mail::content;

fn compose_checked(message: &Message) -> Result<(Envelope, Vec<u8>), MailError> {
    let sender: Mailbox = "QA <noreply@example.com>".parse().unwrap();
    let addresses = Addresses::parse(message)?;
    content::check(message)?;
    compose(
        &Heading { sender: &sender, message_id: "<00ff@example.com>", date: Timestamp(1_700_000_000_000) },
        addresses,
        message,
    )
}

fn written(message: &Message) -> String {
    let bytes = compose_checked(message).unwrap().1;
    check_lines(&bytes);
    String::from_utf8(bytes).unwrap()
}

/// ASCII, no line over 998 bytes, no lone CR or LF, and no line of blanks inside the headers.
fn check_lines(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_ascii());
    for line in text.split("\r\n") {
        assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
        assert!(line.len() <= 998, "{} bytes: {line}", line.len());
    }
    let (headers, _) = text.split_once("\r\n\r\n").unwrap();
    assert!(headers.split("\r\n").all(|line| !line.trim().is_empty()), "{headers:?}");
}

fn message() -> Message {
    Message { to: vec!["Änn <ann@example.com>".to_owned()], text: Some("hi".to_owned()), ..Message::default() }
}

fn file(name: &str, content: &[u8], content_id: Option<&str>) -> Attachment {
    let content_type = if content_id.is_some() { "image/png" } else { "application/pdf" };
    let (name, content_type) = (name.to_owned(), content_type.to_owned());
    Attachment { name, content_type, content: content.to_vec(), content_id: content_id.map(str::to_owned) }
}

#[test]
fn a_full_message_reads_back() {
    let binary: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let message = Message {
        sender_name: Some("Fragebogen, \"Team\"".to_owned()),
        cc: vec!["cc@example.com".to_owned()],
        bcc: vec!["hidden@example.com".to_owned()],
        reply_to: vec!["Ann <ann@example.com>".to_owned()],
        subject: "新しい回答: Ürümqi 问卷 — sehr lange Betreffzeile, die über mehrere Zeilen geht".to_owned(),
        text: Some("Grüße\nzweite Zeile\n.\nFrom hier\n".to_owned()),
        html: Some("<p>Grüße <img src=\"cid:logo\"></p>".to_owned()),
        attachments: vec![file("Größe \"1\".pdf", &binary, None), file("logo.png", b"png\n.\n", Some("logo"))],
        headers: vec![
            ("In-Reply-To".into(), "<1@x>".into()),
            ("List-Unsubscribe".into(), format!("<https://x/{}>", "u".repeat(300))),
        ],
        ..message()
    };
    let text = written(&message);
    assert!(!text.contains("hidden"), "bcc must not be visible");
    let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
    let from = parsed.from().unwrap().first().unwrap();
    assert_eq!((from.name().unwrap(), from.address().unwrap()), ("Fragebogen, \"Team\"", "noreply@example.com"));
    assert_eq!(parsed.to().unwrap().first().unwrap().name().unwrap(), "Änn");
    assert_eq!(parsed.cc().unwrap().first().unwrap().address().unwrap(), "cc@example.com");
    assert_eq!(parsed.reply_to().unwrap().first().unwrap().address().unwrap(), "ann@example.com");
    assert_eq!(parsed.subject().unwrap(), message.subject);
    assert_eq!(parsed.message_id().unwrap(), "00ff@example.com");
    assert_eq!(parsed.date().unwrap().to_timestamp(), 1_700_000_000);
    assert_eq!(parsed.in_reply_to().as_text().unwrap(), "1@x");
    assert!(text.contains(&format!("<https://x/{}>", "u".repeat(300))), "a URL stays whole");
    assert_eq!(parsed.body_text(0).unwrap().replace("\r\n", "\n"), "Grüße\nzweite Zeile\n.\nFrom hier\n");
    assert_eq!(parsed.body_html(0).unwrap(), message.html.as_deref().unwrap());
    let attachments: Vec<_> = parsed.attachments().collect();
    let pdf = attachments.iter().find(|part| part.attachment_name() == Some("Größe \"1\".pdf")).unwrap();
    assert_eq!(pdf.contents(), binary);
    let logo = attachments.iter().find(|part| part.content_id() == Some("logo")).unwrap();
    assert_eq!((logo.contents(), logo.attachment_name()), (b"png\n.\n".as_slice(), Some("logo.png")));
}

#[test]
fn parts_are_nested_as_readers_expect() {
    let shape = |message: &Message| {
        let text = written(message);
        let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
        fn show(parsed: &mail_parser::Message<'_>, at: u32) -> String {
            let part = parsed.part(at).unwrap();
            let kind = part.content_type().map_or("text", |kind| kind.subtype().unwrap_or("text"));
            match &part.body {
                PartType::Multipart(parts) => {
                    format!("{kind}({})", parts.iter().map(|at| show(parsed, *at)).collect::<Vec<_>>().join(" "))
                }
                _ => kind.to_owned(),
            }
        }
        show(&parsed, 0)
    };
    let html = || Some("<p>".to_owned());
    let (inline, attached) = (file("i.png", b"i", Some("i")), file("a.pdf", b"a", None));
    assert_eq!(shape(&message()), "plain");
    assert_eq!(shape(&Message { html: html(), ..message() }), "alternative(plain html)");
    assert_eq!(shape(&Message { html: html(), text: None, ..message() }), "html");
    assert_eq!(shape(&Message { attachments: vec![attached.clone()], ..message() }), "mixed(plain pdf)");
    assert_eq!(
        shape(&Message { html: html(), attachments: vec![inline.clone()], ..message() }),
        "alternative(plain related(html png))"
    );
    let all = Message { html: html(), attachments: vec![attached, inline], ..message() };
    assert_eq!(shape(&all), "mixed(alternative(plain related(html png)) pdf)");
}

#[test]
fn texts_read_exactly_as_given() {
    for subject in
        ["", "plain", "=?utf-8?q?Bcc=3A?=", "two  spaces", "tail", "ü", &"w".repeat(998), &"界".repeat(998), &"a ".repeat(400)]
    {
        let text = written(&Message { subject: subject.to_owned(), ..message() });
        let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.subject().unwrap_or_default(), subject.trim(), "{text}");
    }
    for body in [
        "",
        "a\rb",
        "a\r\nb\rc\n",
        "trailing \nspace",
        "\0",
        &"界".repeat(5_000),
        &"x".repeat(5_000),
        "..\n.\n",
        "a\u{2028}b",
        "\n\n",
    ] {
        let text = written(&Message { text: Some(body.to_owned()), ..message() });
        let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
        let read = parsed.body_text(0).unwrap_or_default().replace("\r\n", "\n");
        // A part ends with a line break of its own.
        let expected = body.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(read.trim_end_matches('\n'), expected.trim_end_matches('\n'), "{text}");
    }
}

#[test]
fn recipients_get_it_once_and_hidden_ones_stay_hidden() {
    let message = Message {
        to: vec!["A@example.com".to_owned(), "A@EXAMPLE.com".to_owned()],
        bcc: vec!["A@example.com".to_owned(), "b@example.com".to_owned()],
        ..message()
    };
    let (envelope, _) = compose_checked(&message).unwrap();
    assert_eq!(envelope.to().iter().map(ToString::to_string).collect::<Vec<_>>(), ["A@example.com", "b@example.com"]);
    assert_eq!(envelope.from().unwrap().to_string(), "noreply@example.com");
    let only_hidden = Message { to: Vec::new(), bcc: vec!["b@example.com".to_owned()], ..message };
    assert!(written(&only_hidden).contains("To: undisclosed-recipients:;\r\n"));
    let many = (0..100).map(|at| format!("\"A rather long name, {at}\" <recipient-{at}@example.com>")).collect();
    written(&Message { to: many, bcc: Vec::new(), ..only_hidden });
}

/// Text as an attacker would write it: line breaks, folds, encoded words, header names, quotes, in any mixture.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("\r\n\r\n".to_owned()),
        Just("X-Evil: 1".to_owned()),
        Just("\r\nX-Evil: 1\r\n".to_owned()),
        Just("=?utf-8?q?=0D=0AX-Evil:_1?=".to_owned()),
        Just("=?utf-8?b?DQpYLUV2aWw6IDE=?=".to_owned()),
        Just("\u{2028}X-Evil: 1".to_owned()),
        Just("\u{85}".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("<a@example.com>".to_owned()),
        Just("a@example.com".to_owned()),
        Just(";  ,:@ ".to_owned()),
        Just(" ".repeat(80)),
        Just("x".repeat(300)),
        ".{0,12}",
        "[a-z ]{0,40}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn hostile_message() -> impl Strategy<Value = Message> {
    let list = || prop::collection::vec(prop_oneof![Just("a@example.com".to_owned()), hostile()], 0..3);
    let file = (hostile(), prop_oneof![Just("text/plain".to_owned()), hostile()], hostile(), prop::option::of(hostile()));
    let files = prop::collection::vec(file, 0..3);
    let name = prop_oneof![Just("X-A".to_owned()), hostile()];
    let headers = prop::collection::vec((name, hostile()), 0..3);
    let texts = (prop::option::of(hostile()), hostile(), prop::option::of(hostile()), prop::option::of(hostile()));
    ((list(), list(), list(), list()), texts, files, headers).prop_map(|((to, cc, bcc, reply_to), texts, files, headers)| {
        Message {
            to,
            cc,
            bcc,
            reply_to,
            sender_name: texts.0,
            subject: texts.1,
            text: texts.2,
            html: texts.3,
            attachments: files
                .into_iter()
                .map(|(name, content_type, content, content_id)| Attachment {
                    name,
                    content_type,
                    content: content.into(),
                    content_id,
                })
                .collect(),
            headers,
            key: None,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_input_makes_a_header(message in hostile_message(), keep in 0..64u32) {
        // A wholly random message is nearly always refused: most fields are made harmless, in every combination.
        let mut message = message;
        if keep & 1 == 0 { message.to = vec!["a@example.com".to_owned()]; }
        if keep & 2 == 0 { (message.cc, message.bcc, message.reply_to) = Default::default(); }
        if keep & 4 == 0 { message.subject = "s".to_owned(); }
        if keep & 8 == 0 { message.sender_name = None; }
        if keep & 16 == 0 { message.attachments.clear(); }
        if keep & 32 == 0 { message.headers.clear(); }
        if let Ok((_, bytes)) = compose_checked(&message) {
            check_lines(&bytes);
            let parsed = MessageParser::default().parse(&bytes).unwrap();
            let known = ["from", "date", "message-id", "to", "cc", "reply-to", "subject", "mime-version", "content-type", "content-transfer-encoding"];
            for part in &parsed.parts {
                for header in &part.headers {
                    let name = header.name().to_ascii_lowercase();
                    let own = message.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(&name));
                    let of_part = ["content-disposition", "content-id"].contains(&name.as_str());
                    prop_assert!(known.contains(&name.as_str()) || own || of_part, "`{name}` in {}", String::from_utf8_lossy(&bytes));
                    prop_assert!(name != "x-evil" || own);
                }
            }
            prop_assert!(parsed.bcc().is_none());
        }
    }
}

//! Binary mode of the CloudEvents HTTP binding (§3.1): attributes in `ce-` headers, the body is the data.
//!
//! The rules for header values (one round of percent-decoding, after a quoted string was unquoted) are the binding's §3.1.3.2.

use std::borrow::Cow;
use std::collections::HashSet;

use percent_encoding::percent_decode;

use super::{Message, Problem, set_data};
use crate::event::{Event, EventError};

/// What the names of attribute headers begin with.
pub const PREFIX: &str = "ce-";

/// Reads the event of a message in binary mode.
///
/// # Errors
/// Names the attribute or header that is wrong or missing.
pub fn read(message: &Message) -> Result<Event, Problem> {
    let mut event = Event::default();
    let mut seen = HashSet::new();
    for (header, value) in message.headers {
        let Some(name) = header.strip_prefix(PREFIX) else { continue };
        if !seen.insert(name) {
            return Err(Problem::Twice((*header).to_owned()));
        }
        if name == "datacontenttype" {
            let (name, found) = ((*header).to_owned(), "given".to_owned());
            return Err(Problem::Header { name, found, expected: "the header `content-type` in its place" });
        }
        event.set(name, text(header, value)?)?;
    }
    if !seen.contains("specversion") {
        return Err(EventError::Missing("specversion").into());
    }
    event.complete()?;
    set_data(&mut event, message.header("content-type")?, message.body)?;
    Ok(event)
}

/// The text of a header's value.
fn text(header: &str, value: &[u8]) -> Result<String, Problem> {
    let unquoted = unquote(value);
    match percent_decode(&unquoted).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Problem::Header {
            name: header.to_owned(),
            found: "not UTF-8 after percent-decoding".to_owned(),
            expected: "UTF-8, percent-encoded outside of printable ASCII",
        }),
    }
}

/// Takes the quotes and backslashes off a quoted string (RFC 9110 §5.6.4); anything else stays as it is.
fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(value);
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(escaped) => out.push(*escaped),
                // The closing quote was escaped: no quoted string after all.
                None => return Cow::Borrowed(value),
            },
            b'"' => return Cow::Borrowed(value),
            _ => out.push(*byte),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_decoded_as_the_binding_says() {
        for (value, expected) in [
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("%e2%82%ac", "€"),
            ("%41", "A"),
            ("plain", "plain"),
            (r#""a b""#, "a b"),
            (r#""say \"hi\" \\ %E2%82%AC""#, r#"say "hi" \ €"#),
            ("%2525", "%25"),
            (r#"5" disk"#, r#"5" disk"#),
            (r#""a" and "b""#, r#""a" and "b""#),
            (r#""open\""#, r#""open\""#),
            ("\"", "\""),
            ("100%", "100%"),
            ("é", "é"),
        ] {
            assert_eq!(text("ce-x", value.as_bytes()).unwrap(), expected, "{value}");
        }
        for value in [&b"%C0%A0"[..], b"%ff", b"\xff", b"%ED%A0%80"] {
            assert!(text("ce-x", value).unwrap_err().to_string().starts_with("header `ce-x` is not UTF-8"), "{value:?}");
        }
    }
}

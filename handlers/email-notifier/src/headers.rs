//! What goes into a mail's head: one line each, whatever stands in an event.

/// Longest subject or header value, in characters. Readers show less than a hundred; relays refuse lines of 998 bytes.
const LINE_CHARS_MAX: usize = 240;
/// The domain of the identifiers that hold conversations together; reserved, so that it can't be anybody's (RFC 2606).
const THREAD_DOMAIN: &str = "thread.weir.invalid";

/// A text as one line: line breaks and other control characters become spaces, runs of spaces one; too long is cut.
pub(crate) fn line(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || hidden(c)).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    if line.chars().count() <= LINE_CHARS_MAX {
        return line;
    }
    line.chars().take(LINE_CHARS_MAX - 1).chain(['…']).collect()
}

/// Control characters, and those that turn the direction of text around: a name must not make a subject read backwards.
pub(crate) fn hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The headers that make all mails with this key one conversation: each is an answer to the same message, which never was.
pub(crate) fn thread(rule_key: &str) -> [(String, String); 2] {
    let id = format!("<{:032x}@{THREAD_DOMAIN}>", fnv128(rule_key.as_bytes()));
    [("In-Reply-To".to_owned(), id.clone()), ("References".to_owned(), id)]
}

/// FNV-1a with 128 bits: the key must not be readable in the header, and nothing depends on collisions being hard to make.
pub(crate) fn fnv128(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

/// List-Unsubscribe (RFC 2369), and with `one_click` the header of RFC 8058.
///
/// # Errors
/// When the address is none that mail programs follow.
pub(crate) fn unsubscribe(address: &str, one_click: bool) -> Result<Vec<(String, String)>, String> {
    let good =
        ["https://", "http://", "mailto:"].iter().any(|scheme| address.len() > scheme.len() && address.starts_with(scheme));
    if !good || address.chars().any(|c| c.is_whitespace() || hidden(c) || "<>,\"".contains(c)) {
        let shown: String = address.chars().take(80).collect();
        return Err(format!("`unsubscribe`: `{}` is no address for it (expected https:// or mailto:)", shown.escape_debug()));
    }
    let mut headers = vec![("List-Unsubscribe".to_owned(), format!("<{address}>"))];
    if one_click {
        headers.push(("List-Unsubscribe-Post".to_owned(), "List-Unsubscribe=One-Click".to_owned()));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines() {
        for (text, expected) in [
            ("a\r\nBcc: x@y", "a Bcc: x@y"),
            (" a\tb\u{2028}c ", "a b c"),
            ("a\u{202e}b", "a b"),
            ("问卷 \u{0}已回答", "问卷 已回答"),
        ] {
            assert_eq!(line(text), expected);
        }
        assert_eq!(line(&"a".repeat(500)).chars().count(), LINE_CHARS_MAX);
    }

    #[test]
    fn a_conversation_has_one_root() {
        // The offset is the hash of nothing, by definition of FNV.
        assert_eq!(thread("")[0].1, "<6c62272e07bb014262b821756295c58d@thread.weir.invalid>");
        assert_eq!(thread("order 1"), thread("order 1"));
        assert_ne!(thread("order 1"), thread("order 2"));
    }

    #[test]
    fn unsubscribe_is_an_address() {
        assert_eq!(unsubscribe("https://x/?u=1", true).unwrap().len(), 2);
        assert_eq!(unsubscribe("mailto:u@example.com", false).unwrap()[0].1, "<mailto:u@example.com>");
        for wrong in ["javascript:alert(1)", "https://", "https://x/> <mailto:a@b", "https://x\r\nBcc: a@b", "x"] {
            assert!(unsubscribe(wrong, false).is_err(), "{wrong:?}");
        }
    }
}

//! Masks secrets in the text of a configuration before any of it can be shown. It only hides: it never decides what a value means.
//!
//! It works on the text, not on the parsed tree, because a syntax error is shown too and then there may be no tree. It errs on the
//! side of hiding: a line may lose more than its secret. `${NAME}` stays as written, for it tells no value.

/// A text that must not appear in logs, errors, metrics or answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The last words of keys whose value is a secret: tokens of `[server]`, and what `[secret.*]` holds.
const SECRET_KEYS: [&str; 3] = ["token", "publish-token", "value"];

/// The same text, byte for byte as long, with `*` over what may be a secret.
pub(super) fn redact(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        mask_values_of_secret_keys(line, start, &mut bytes);
        mask_passwords(line, start, &mut bytes);
        start += line.len();
    }
    String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len()))
}

/// `token = "…"`: everything after the first such `=` of the line.
fn mask_values_of_secret_keys(line: &str, start: usize, bytes: &mut [u8]) {
    for (at, _) in line.match_indices('=') {
        let (left, value) = line.split_at(at);
        let key = left.trim_end().trim_end_matches(['"', '\'']);
        let word = key.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).next().unwrap_or_default();
        let dotted_secret = key.starts_with("secret.") || word == "secret";
        if dotted_secret || SECRET_KEYS.contains(&word) {
            mask(value, start + at, bytes);
            return;
        }
    }
}

/// `://user:password@`: from the first colon to the last `@` before the text ends.
fn mask_passwords(line: &str, start: usize, bytes: &mut [u8]) {
    for (at, separator) in line.match_indices("://") {
        let begin = at + separator.len();
        let rest = line.get(begin..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        let Some(at_sign) = authority.rfind('@') else { continue };
        let Some(colon) = authority.find(':') else { continue };
        if let Some(password) = authority.get(colon + 1..at_sign) {
            mask(password, start + begin + colon + 1, bytes);
        }
    }
}

/// Writes `*` over a piece of the text but for quotes, spaces, `=` and the names in `${…}`; a default after `:-` is masked.
fn mask(piece: &str, start: usize, bytes: &mut [u8]) {
    let mut shown_until = 0;
    for (at, c) in piece.char_indices() {
        if at < shown_until {
            continue;
        }
        let rest = piece.get(at..).unwrap_or_default();
        if rest.starts_with("${") && rest.contains('}') {
            let end = rest.find('}').unwrap_or(0);
            shown_until = at + rest.get(..end).and_then(|inside| inside.find(":-")).map_or(end + 1, |dash| dash + 2);
        } else if !matches!(c, '"' | '\'' | ' ' | '\t' | '=' | '\r' | '\n' | '}') {
            for byte in bytes.iter_mut().skip(start + at).take(c.len_utf8()) {
                *byte = b'*';
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(redact(text), expected);
        assert_eq!(redact(text).len(), text.len());
    }

    #[test]
    fn secrets_are_masked_and_the_rest_is_not() {
        check("listen = \"x:1\"\ntoken = \"abc\"\r\ngrace = 5", "listen = \"x:1\"\ntoken = \"***\"\r\ngrace = 5");
        check("publish-token = 'abc' # c", "publish-token = '***' * *");
        check("server.token=ab", "server.token=**");
        check("server = { token = \"ab\", name = 1 }", "server = { token = \"**\"* **** = * }");
        check("\"token\" = ä", "\"token\" = **");
        check("token = \"${T}\"", "token = \"${T}\"");
        check("token = \"a${T:-bc}d\"", "token = \"*${T:-**}*\"");
        check("token = \"${T", "token = \"***");
        check("secret.x.value = 'k'", "secret.x.value = '*'");
        check("secret = { x = { value = 'k' } }", "secret = * * = * ***** = '*' } }");
        check("relay = \"smtp://u:p/w:x@h@host:587\" # a@b", "relay = \"smtp://u:*******@host:587\" # a@b");
        check("relay = \"smtp://u:${P}@host:587\"", "relay = \"smtp://u:${P}@host:587\"");
        check("relay = \"smtp://host:587?tls=none\"", "relay = \"smtp://host:587?tls=none\"");
        check("tokens = 5", "tokens = 5");
    }
}

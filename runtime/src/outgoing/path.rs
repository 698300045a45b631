//! Paths of requests, in one form before they are compared with a grant: what is compared is what is sent. Pure.
//!
//! Servers and proxies read odd paths in different ways: some decode `%2f` before they look at `..`, some drop what stands after a `;`.
//! A path that some of them would read as one of another folder is refused, whatever it is meant to be.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What may not stand in a path as it is (RFC 3986); letters beyond ASCII never may.
const ENCODED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// How often a piece of a path may have been encoded: nobody does it more than twice on purpose.
const ROUNDS: usize = 4;

/// A path in its one form: dot segments followed, unreserved characters not encoded, hex digits in capitals.
///
/// # Errors
/// What is wrong with it; fits after "its path".
pub(super) fn normal(path: &str) -> Result<String, &'static str> {
    let path = if path.is_empty() { "/" } else { path };
    let Some(rest) = path.strip_prefix('/') else { return Err("does not begin with `/`") };
    let mut segments: Vec<String> = Vec::new();
    let mut open = false;
    for segment in rest.split('/') {
        let segment = tidy(segment)?;
        open = matches!(segment.as_str(), "." | "..");
        match segment.as_str() {
            "." => {}
            ".." => drop(segments.pop()),
            other if escapes(other)? => return Err("hides `..` behind an encoding, a backslash or a `;`"),
            _ => segments.push(segment),
        }
    }
    if open {
        segments.push(String::new());
    }
    Ok(format!("/{}", segments.join("/")))
}

/// One segment with only those characters encoded that have to be.
fn tidy(segment: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(at) = rest.find('%') {
        let (before, encoded) = rest.split_at(at);
        out.extend(utf8_percent_encode(before, ENCODED));
        let byte = hex(encoded).ok_or("has a `%` without two hex digits after it")?;
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            0..=31 | 127 => return Err("has an encoded control character"),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        rest = encoded.get(3..).unwrap_or_default();
    }
    out.extend(utf8_percent_encode(rest, ENCODED));
    Ok(out)
}

/// The byte that `%XX` at the beginning stands for.
fn hex(encoded: &str) -> Option<u8> {
    let digits = encoded.get(1..3)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Whether a segment is a way up for a server that decodes it first, takes `\` for `/`, or drops what stands after a `;`.
fn escapes(segment: &str) -> Result<bool, &'static str> {
    let mut bytes = segment.as_bytes().to_vec();
    for _ in 0..ROUNDS {
        let up = |piece: &[u8]| matches!(piece.split(|byte| *byte == b';').next(), Some(b"." | b".."));
        if bytes.split(|byte| matches!(byte, b'/' | b'\\')).any(up) {
            return Ok(true);
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&bytes).collect();
        if decoded == bytes {
            return Ok(false);
        }
        bytes = decoded;
    }
    Err("is encoded too often")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("/v1/x", "/v1/x"),
            ("/v1/./x", "/v1/x"),
            ("/v1/../x", "/x"),
            ("/v1/..", "/"),
            ("/v1/x/..", "/v1/"),
            ("/v1/.", "/v1/"),
            ("/../../x", "/x"),
            ("/v1/%2e%2E/x", "/x"),
            ("/v1/%7euser/%41", "/v1/~user/A"),
            ("/v1//x", "/v1//x"),
            ("/v1//../x", "/v1/x"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb%2525", "/a%2Fb%2525"),
            ("/größe x", "/gr%C3%B6%C3%9Fe%20x"),
            ("/a\\b", "/a%5Cb"),
            ("/a;b=..", "/a;b=.."),
            ("/...", "/..."),
            ("/.hidden", "/.hidden"),
        ] {
            assert_eq!(normal(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn ways_out_are_refused() {
        for path in [
            "v1",
            "*",
            "/v1/..%2fadmin",
            "/v1/..%2Fadmin",
            "/v1/x%2f..%2f..%2fadmin",
            "/v1/..%5cadmin",
            "/v1/..\\admin",
            "/v1/%252e%252e/admin",
            "/v1/%252e%252e%252fadmin",
            "/v1/..;/admin",
            "/v1/..;x=1/admin",
            "/v1/.;/x",
            "/v1/%2e%2e%3b/admin",
            "/v1/%",
            "/v1/%2",
            "/v1/%zz",
            "/v1/%+1",
            "/v1/%00",
            "/v1/x%0d%0ay",
            "/v1/%25252525252541",
        ] {
            assert!(normal(path).is_err(), "{path}: {:?}", normal(path));
        }
    }
}

//! `${NAME}`, `${NAME:-default}`, `${file:/path}` and `$${` in texts: replaced once, after parsing (surface.md §1).
//!
//! As in a shell, a default stands in for a variable that is missing or empty. What is put in is percent-encoded where the text is a
//! URL and the place is its userinfo, so that a password may hold any character. What was put in is never looked at again.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Most bytes of a file named by `${file:…}`: it is a password or a token; 64 KiB holds any key file, and a wrong path (a disk, a
/// device) does no harm.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What RFC 3986 leaves alone everywhere.
const USERINFO: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where values come from.
pub(super) struct Lookup<'a> {
    /// The environment.
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Where relative paths begin.
    pub(super) base: &'a Path,
}

/// A text with its values in place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interpolated {
    pub(super) text: String,
    /// What values were put in, as `${NAME}`: where there are any, the text must not be shown.
    pub(super) replaced: Vec<String>,
    /// Those values that came from the environment or a file, as they came; not a default, which stands in weir.toml for all to read.
    pub(super) values: Vec<String>,
}

/// Why a value cannot be put in; tells no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The piece as it was written, to underline: `${NAME}`.
    pub(super) piece: String,
    /// What is wrong; a whole fragment.
    pub(super) message: String,
    /// What would be right.
    pub(super) expected: String,
}

/// A stretch of the text as written.
enum Piece<'t> {
    Literal(&'t str),
    /// With its braces.
    Reference(&'t str),
}

/// Puts the values in.
pub(super) fn interpolate(written: &str, lookup: &Lookup<'_>) -> Result<Interpolated, Fault> {
    let pieces = split(written)?;
    let userinfo_end = userinfo_end(&pieces);
    let mut text = String::with_capacity(written.len());
    let (mut replaced, mut values) = (Vec::new(), Vec::new());
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Reference(reference) => {
                let (value, is_default) = resolve(reference, lookup)?;
                let end = reference.find(":-").unwrap_or(reference.len() - 1);
                replaced.push(format!("{}}}", reference.get(..end).unwrap_or_default()));
                if index < userinfo_end {
                    text.extend(utf8_percent_encode(&value, USERINFO));
                } else {
                    text.push_str(&value);
                }
                if !is_default {
                    values.push(value);
                }
            }
        }
    }
    Ok(Interpolated { text, replaced, values })
}

fn split(written: &str) -> Result<Vec<Piece<'_>>, Fault> {
    let mut pieces = Vec::new();
    let mut rest = written;
    while let Some(dollar) = rest.find("${") {
        let (before, reference) = rest.split_at(dollar);
        if let Some(before) = before.strip_suffix('$') {
            pieces.push(Piece::Literal(before));
            pieces.push(Piece::Literal("${"));
            rest = reference.get(2..).unwrap_or_default();
            continue;
        }
        pieces.push(Piece::Literal(before));
        let Some((_, after)) = reference.split_once('}') else {
            return Err(Fault {
                piece: reference.to_owned(),
                message: "`${` is not closed".to_owned(),
                expected: "a `}` after it; `$${` is a plain `${`".to_owned(),
            });
        };
        pieces.push(Piece::Reference(reference.strip_suffix(after).unwrap_or_default()));
        rest = after;
    }
    pieces.push(Piece::Literal(rest));
    Ok(pieces)
}

/// The pieces before this index stand in the userinfo of a URL: up to the last `@` before its path.
fn userinfo_end(pieces: &[Piece<'_>]) -> usize {
    let Some(Piece::Literal(first)) = pieces.first() else { return 0 };
    let Some((scheme, after_scheme)) = first.split_once("://") else { return 0 };
    let scheme_like = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !scheme_like {
        return 0;
    }
    let mut end = 0;
    for (index, piece) in pieces.iter().enumerate() {
        let Piece::Literal(literal) = piece else { continue };
        let literal = if index == 0 { after_scheme } else { literal };
        let authority_ends = literal.find(['/', '?', '#']);
        if literal.get(..authority_ends.unwrap_or(literal.len())).is_some_and(|authority| authority.contains('@')) {
            end = index;
        }
        if authority_ends.is_some() {
            break;
        }
    }
    end
}

/// The value, and whether it is the default that was written.
fn resolve(reference: &str, lookup: &Lookup<'_>) -> Result<(String, bool), Fault> {
    let fault = |message: String, expected: &str| Fault { piece: reference.to_owned(), message, expected: expected.to_owned() };
    let inside = reference.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
    if let Some(path) = inside.strip_prefix("file:") {
        let text = read(path, lookup.base).map_err(|why| fault(why, "a readable text file of at most 64 KiB"))?;
        return Ok((text, false));
    }
    if inside.starts_with("secret:") {
        let expected = "`${NAME}`, `${NAME:-default}` or `${file:/path}`; `$${` is a plain `${`";
        return Err(fault(format!("`{reference}`: not in this version yet"), expected));
    }
    let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !valid {
        let expected = "`${NAME}`, `${NAME:-default}` or `${file:/path}`; `$${` is a plain `${`";
        return Err(fault("this is not a name of an environment variable".to_owned(), expected));
    }
    let value = (lookup.variable)(name);
    match (value, default) {
        (Some(value), Some(default)) if value.is_empty() => Ok((default.to_owned(), true)),
        (Some(value), _) => value
            .into_string()
            .map(|value| (value, false))
            .map_err(|_| fault(format!("environment variable `{name}` is not UTF-8"), "a variable whose value is UTF-8")),
        (None, Some(default)) => Ok((default.to_owned(), true)),
        (None, None) => Err(fault(
            format!("environment variable `{name}` is not set"),
            &format!("`{name}` in the environment, or a default: `${{{name}:-default}}`"),
        )),
    }
}

/// A file's text without its last line end.
fn read(path: &str, base: &Path) -> Result<String, String> {
    if path.is_empty() {
        return Err("`${file:}` names no file".to_owned());
    }
    let path = base.join(path);
    let shown = path.display();
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(format!("file `{shown}` cannot be read: {error}")),
        Ok(_) if text.len() as u64 > FILE_BYTES_MAX => Err(format!("file `{shown}` is over 64 KiB")),
        Ok(_) => {
            let end = text.strip_suffix('\n').map_or(text.len(), |line| line.strip_suffix('\r').unwrap_or(line).len());
            text.truncate(end);
            Ok(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(written: &str) -> Result<Interpolated, Fault> {
        let variable = |name: &str| match name {
            "USER" => Some("ann".into()),
            "PW" => Some("p@s:s/w${USER}".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        };
        interpolate(written, &Lookup { variable: &variable, base: Path::new("/nowhere") })
    }

    #[test]
    fn values_are_put_in_once() {
        let table = [
            ("plain $5 $ $$", "plain $5 $ $$"),
            ("${USER}", "ann"),
            ("a${USER}b${USER}", "aannbann"),
            ("${PW}", "p@s:s/w${USER}"),
            ("${MISSING:-x:-y}", "x:-y"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${MISSING:-}", ""),
            ("$${USER}", "${USER}"),
            ("$${USER}${USER}", "${USER}ann"),
            ("smtp://${USER}:${PW}@h:587", "smtp://ann:p%40s%3As%2Fw%24%7BUSER%7D@h:587"),
            ("smtp://ann:x@${PW}@h", "smtp://ann:x@p%40s%3As%2Fw%24%7BUSER%7D@h"),
            ("smtp://h/${PW}@x", "smtp://h/p@s:s/w${USER}@x"),
            ("smtp://${USER}", "smtp://ann"),
            ("mail ${PW}@h", "mail p@s:s/w${USER}@h"),
        ];
        for (written, expected) in table {
            assert_eq!(run(written).map(|done| done.text), Ok(expected.to_owned()), "{written}");
        }
        assert_eq!(run("a${USER}b${MISSING:-c}").unwrap().replaced, ["${USER}", "${MISSING}"]);
        assert_eq!(run("a${USER}b${MISSING:-c}").unwrap().values, ["ann"]);
        assert_eq!(run("smtp://u:${PW}@h").unwrap().values, ["p@s:s/w${USER}"]);
        assert!(run("$${USER}").unwrap().replaced.is_empty());
    }

    #[test]
    fn faults_name_the_piece() {
        let table = [
            ("a ${MISSING} b", "${MISSING}", "environment variable `MISSING` is not set"),
            ("a ${USER", "${USER", "`${` is not closed"),
            ("${}", "${}", "this is not a name of an environment variable"),
            ("${A B}", "${A B}", "this is not a name of an environment variable"),
            ("${secret:x}", "${secret:x}", "`${secret:x}`: not in this version yet"),
            ("${file:}", "${file:}", "`${file:}` names no file"),
        ];
        for (written, piece, message) in table {
            let fault = run(written).unwrap_err();
            assert_eq!((fault.piece.as_str(), fault.message.as_str()), (piece, message));
        }
        assert!(run("${file:x}").unwrap_err().message.starts_with("file `/nowhere/x` cannot be read"));
    }

    #[test]
    fn files_are_bounded_and_lose_their_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let lookup = Lookup { variable: &|_| None, base: folder.path() };
        for (content, expected) in [("pw", "pw"), ("pw\n", "pw"), ("pw\r\n", "pw"), ("pw\n\n", "pw\n"), ("", "")] {
            std::fs::write(folder.path().join("s"), content).unwrap();
            assert_eq!(interpolate("${file:s}", &lookup).unwrap().text, expected);
        }
        std::fs::write(folder.path().join("s"), "x".repeat(70_000)).unwrap();
        assert!(interpolate("${file:s}", &lookup).unwrap_err().message.ends_with("is over 64 KiB"));
        std::fs::write(folder.path().join("s"), [0xff]).unwrap();
        assert!(interpolate("${file:s}", &lookup).unwrap_err().message.contains("cannot be read"));
    }
}

//! `filter` of `[handler.*]`: compiled here, so that a mistake is underlined where it stands within the expression.

use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::Finding;
use super::interpolate::Interpolated;
use super::reader::{Field, Reader};
use super::redact::redact;
use super::section::Section;
use super::tree::Place;
use super::values::Form;
use crate::filter::{Filter, FilterError};

const FILTER: Form = Form::new("a filter in CloudEvents SQL", "such as `\"type LIKE 'qa.%'\"`");

/// Longest line of an expression that is shown with its own caret, in characters: what a terminal has room for.
const CARET_LINE_MAX: usize = 120;

pub(super) fn read(section: &mut Section<'_, '_>) -> Option<Arc<Filter>> {
    let field = section.take("filter")?;
    let done = section.reader.text(&field, &FILTER)?;
    match Filter::parse(&done.text) {
        Ok(filter) => Some(Arc::new(filter)),
        Err(error) => {
            refuse(section.reader, &field, &done, error);
            None
        }
    }
}

fn refuse(reader: &mut Reader<'_>, field: &Field, done: &Interpolated, error: FilterError) {
    let whole = &field.node.place;
    let in_words = |found: &str| format!("`{}` is not a filter: {found}", field.key);
    let exact = reader.shown(whole).and_then(|written| place_in(written, &done.text, &error.place));
    let (place, message, note) = match exact {
        Some(span) => {
            let span = whole.span.start + span.start..whole.span.start + span.end;
            (Place { source: whole.source, span }, in_words(&error.found), None)
        }
        None => {
            // An error repeats pieces of the text, so it is told only where the text may be.
            let open = done.replaced.is_empty() && redact(&done.text) == done.text;
            let message = if open { in_words(&error.found) } else { in_words("it does not parse") };
            (whole.clone(), message, Some(note(done, &error)))
        }
    };
    let found = place.span.is_empty().then_some("nothing");
    let notes = note.into_iter().collect();
    reader.report(&place, Finding { key: field.key.clone(), message, expected: error.expected, found, notes });
}

/// Where the mistake is, for an expression that is written in another way than it reads.
fn note(done: &Interpolated, error: &FilterError) -> String {
    let before = done.text.get(..error.place.start).unwrap_or_default();
    let character = before.chars().count() + 1;
    if !done.replaced.is_empty() {
        let names = done.replaced.join("`, `");
        return format!("it is at character {character} of the expression; what was put in for `{names}` is not shown");
    }
    let shown = redact(&done.text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = shown.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    if line.chars().count() > CARET_LINE_MAX || line.chars().any(|c| c.is_control()) {
        return format!("it is at character {character} of the expression");
    }
    let indent = before.get(line_start..).unwrap_or_default().chars().count();
    let carets =
        done.text.get(error.place.clone()).and_then(|piece| piece.lines().next()).map_or(0, |piece| piece.chars().count());
    format!("it is here in the expression:\n{line}\n{}{}", " ".repeat(indent), "^".repeat(carets.max(1)))
}

/// The place of a piece of a text within the text as TOML writes it. Nothing where the two differ in another way than by escapes.
fn place_in(written: &str, text: &str, piece: &Range<usize>) -> Option<Range<usize>> {
    let (body, escapes) = if written == text { (written, false) } else { body(written)? };
    let (mut rest, mut start) = (body, None);
    let mut chars = text.char_indices().map(|(at, c)| (at, Some(c))).chain([(text.len(), None)]);
    loop {
        let (at, next) = chars.next()?;
        let here = written.len() - rest.len();
        if at == piece.start {
            start = Some(here);
        }
        if at == piece.end {
            return start.map(|start| start..here);
        }
        rest = behind(rest, next?, escapes)?;
    }
}

/// What stands behind the opening quotes, and whether it may have escapes. The closing quotes stay: nobody walks over them.
fn body(written: &str) -> Option<(&str, bool)> {
    for (quotes, escapes) in [("\"\"\"", true), ("'''", false)] {
        if let Some(body) = written.strip_prefix(quotes) {
            // The first line end is not part of the text.
            let body = body.strip_prefix("\r\n").or_else(|| body.strip_prefix('\n')).unwrap_or(body);
            return Some((body, escapes));
        }
    }
    written.strip_prefix('"').map(|body| (body, true)).or_else(|| written.strip_prefix('\'').map(|body| (body, false)))
}

/// What stands behind this character, written as itself or as an escape.
fn behind(rest: &str, c: char, escapes: bool) -> Option<&str> {
    let Some(escape) = rest.strip_prefix('\\').filter(|_| escapes) else {
        return rest.strip_prefix(c);
    };
    let kind = escape.chars().next()?;
    let after = escape.get(kind.len_utf8()..)?;
    let digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => {
            let means = [
                ('b', '\u{8}'),
                ('t', '\t'),
                ('n', '\n'),
                ('f', '\u{c}'),
                ('r', '\r'),
                ('e', '\u{1b}'),
                ('"', '"'),
                ('\\', '\\'),
            ];
            return means.contains(&(kind, c)).then_some(after);
        }
    };
    let (code, after) = after.split_at_checked(digits)?;
    (u32::from_str_radix(code, 16).ok() == Some(u32::from(c))).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_behind_quotes_and_escapes() {
        // As TOML writes it; the text; the piece; and what of the written text is that piece.
        let table = [
            (r#""type = 'a'""#, "type = 'a'", "'a'", Some("'a'")),
            (r#"'type = "a"'"#, r#"type = "a""#, "type", Some("type")),
            (r#""type = \"a\" x""#, r#"type = "a" x"#, "x", Some("x")),
            (r#""type = \"a\"""#, r#"type = "a""#, r#""a""#, Some(r#"\"a\""#)),
            (r#""\u0041\U00000042\x43 x""#, "ABC x", "x", Some("x")),
            (r#""\\\t x""#, "\\\t x", "x", Some("x")),
            ("\"\"\"\ntype\n= x\"\"\"", "type\n= x", "x", Some("x")),
            ("'''type = x'''", "type = x", "x", Some("x")),
            ("type = x", "type = x", "x", Some("x")),
            ("'a' = x", "'a' = x", "x", Some("x")),
            (r"'a\n x'", r"a\n x", "x", Some("x")),
            (r#""token = '***' x""#, "token = 'abc' x", "x", None),
            ("\"\"\"a \\\n x\"\"\"", "a x", "x", None),
            ("5", "x", "x", None),
        ];
        for (written, text, piece, expected) in table {
            let at = text.find(piece).unwrap();
            let place = place_in(written, text, &(at..at + piece.len()));
            assert_eq!(place.map(|place| &written[place]), expected, "{written}");
        }
        assert_eq!(place_in("\"abc\"", "abc", &(3..3)), Some(4..4), "the end of the text is before the closing quote");
    }
}

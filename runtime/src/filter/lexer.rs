//! The text of an expression in pieces. It knows no keywords: a word is a word until the parser asks for an operator.

use std::borrow::Cow;
use std::ops::Range;

use super::FilterError;

/// Most characters of a piece that an error repeats.
const SHOWN_MAX: usize = 40;

/// A piece of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lexeme<'t> {
    /// A keyword, an attribute or the name of a function: letters, digits, `_`.
    Word(&'t str),
    /// Digits alone, without a sign.
    Digits(&'t str),
    /// A string literal, without quotes and escapes.
    Text(Cow<'t, str>),
    /// A bracket, a comma or an operator; `<>` reads as `!=`.
    Symbol(&'static str),
    /// Behind the last piece.
    End,
}

/// A piece and where it stands, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Token<'t> {
    pub(super) lexeme: Lexeme<'t>,
    pub(super) place: Range<usize>,
}

/// Two characters first, so that `<=` is not read as `<`.
const SYMBOLS: [(&str, &str); 15] = [
    ("!=", "!="),
    ("<>", "!="),
    ("<=", "<="),
    (">=", ">="),
    ("=", "="),
    ("<", "<"),
    (">", ">"),
    ("(", "("),
    (")", ")"),
    (",", ","),
    ("*", "*"),
    ("/", "/"),
    ("%", "%"),
    ("+", "+"),
    ("-", "-"),
];

/// Splits a text; the last piece is always [`Lexeme::End`].
pub(super) fn split(text: &str) -> Result<Vec<Token<'_>>, FilterError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        // The specification's own white space; another kind, such as a no-break space, is told.
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        at += blank;
        let rest = rest.get(blank..).unwrap_or_default();
        let (lexeme, length) = match rest.chars().next() {
            None => {
                tokens.push(Token { lexeme: Lexeme::End, place: at..at });
                return Ok(tokens);
            }
            Some(quote @ ('\'' | '"')) => literal(rest, quote, at)?,
            Some(c) if is_word(c) => word(rest),
            Some(c) => symbol(rest).ok_or_else(|| unknown(c, at))?,
        };
        tokens.push(Token { lexeme, place: at..at + length });
        at += length;
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn word(rest: &str) -> (Lexeme<'_>, usize) {
    let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
    let word = rest.get(..length).unwrap_or_default();
    let digits = word.bytes().all(|b| b.is_ascii_digit());
    (if digits { Lexeme::Digits(word) } else { Lexeme::Word(word) }, length)
}

fn symbol(rest: &str) -> Option<(Lexeme<'static>, usize)> {
    let (written, symbol) = SYMBOLS.iter().find(|(written, _)| rest.starts_with(written))?;
    Some((Lexeme::Symbol(symbol), written.len()))
}

/// A string literal from its opening quote. A backslash keeps the next character from ending it; both stay, but before the quote.
fn literal(rest: &str, quote: char, start: usize) -> Result<(Lexeme<'_>, usize), FilterError> {
    let mut unescaped: Option<String> = None;
    let mut kept = 1;
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        if c == '\\' && next.is_some() {
            if next == Some(quote) {
                unescaped.get_or_insert_default().push_str(rest.get(kept..at).unwrap_or_default());
                kept = at + 1;
            }
            chars.next();
        } else if c == quote && next == Some(quote) {
            unescaped.get_or_insert_default().push_str(rest.get(kept..at).unwrap_or_default());
            kept = at + 1;
            chars.next();
        } else if c == quote {
            let last = rest.get(kept..at).unwrap_or_default();
            let text = match unescaped {
                Some(text) => Cow::Owned(text + last),
                None => Cow::Borrowed(last),
            };
            return Ok((Lexeme::Text(text), at + 1));
        }
    }
    let expected = format!("a `{quote}` that closes the text; inside it, `\\{quote}` is a quote");
    Err(FilterError::new(start..start + rest.len(), "a text that is not closed", expected))
}

fn unknown(c: char, at: usize) -> FilterError {
    let found = format!("`{}`, which CloudEvents SQL does not have", c.escape_debug());
    FilterError::new(at..at + c.len_utf8(), found, "an operator, a value or a bracket; texts stand in quotes")
}

/// How an error names a piece.
pub(super) fn shown(token: &Token<'_>, text: &str) -> String {
    let piece = text.get(token.place.clone()).unwrap_or_default();
    match piece.char_indices().nth(SHOWN_MAX) {
        _ if token.lexeme == Lexeme::End => "the end of the expression".to_owned(),
        Some((end, _)) => format!("`{}…`", piece.get(..end).unwrap_or_default()),
        None => format!("`{piece}`"),
    }
}

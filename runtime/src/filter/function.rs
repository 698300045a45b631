//! The functions of the specification (§3.5 and §3.7): which there are, what they take, and what they do.

use std::borrow::Cow;

use super::value::{Type, Value};
use super::{ErrorKind, TEXT_BYTES_MAX};

/// A function, told apart by its name and how many arguments it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Length,
    Concat,
    ConcatWith,
    Lower,
    Upper,
    Trim,
    Left,
    Right,
    Substring,
    Abs,
    Int,
    Bool,
    Text,
    IsBool,
    IsInt,
}

/// A row: its name, the function, the least and most arguments, what it gives.
type Row = (&'static str, Function, usize, usize, Type);

const FUNCTIONS: [Row; 15] = [
    ("LENGTH", Function::Length, 1, 1, Type::Integer),
    ("CONCAT", Function::Concat, 0, usize::MAX, Type::Text),
    ("CONCAT_WS", Function::ConcatWith, 1, usize::MAX, Type::Text),
    ("LOWER", Function::Lower, 1, 1, Type::Text),
    ("UPPER", Function::Upper, 1, 1, Type::Text),
    ("TRIM", Function::Trim, 1, 1, Type::Text),
    ("LEFT", Function::Left, 2, 2, Type::Text),
    ("RIGHT", Function::Right, 2, 2, Type::Text),
    ("SUBSTRING", Function::Substring, 2, 3, Type::Text),
    ("ABS", Function::Abs, 1, 1, Type::Integer),
    ("INT", Function::Int, 1, 1, Type::Integer),
    ("BOOL", Function::Bool, 1, 1, Type::Boolean),
    ("STRING", Function::Text, 1, 1, Type::Text),
    ("IS_BOOL", Function::IsBool, 1, 1, Type::Boolean),
    ("IS_INT", Function::IsInt, 1, 1, Type::Boolean),
];

/// An error of a function, and the value that it has nevertheless.
pub(super) type Failure<'a> = (ErrorKind, Value<'a>);

/// The function of this name, in any case, with this many arguments, and what it gives.
pub(super) fn find(name: &str, arguments: usize) -> Option<(Function, Type)> {
    let (_, function, least, most, gives) = row(name)?;
    (*least..=*most).contains(&arguments).then_some((*function, *gives))
}

fn row(name: &str) -> Option<&'static Row> {
    FUNCTIONS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))
}

/// What would be right where a function does not exist.
pub(super) fn expected(name: &str) -> String {
    /// From where on two names look alike: `LENGHT` and `LENGTH` do, `FOO` and `BOOL` do not.
    const ALIKE: f64 = 0.8;
    if let Some((name, _, least, most, _)) = row(name) {
        return match (*least, *most) {
            (_, usize::MAX) => format!("at least one argument of `{name}`"),
            (1, 1) => format!("one argument of `{name}`"),
            (least, most) if least == most => format!("{least} arguments of `{name}`"),
            (least, most) => format!("{least} or {most} arguments of `{name}`"),
        };
    }
    let wanted = name.to_ascii_uppercase();
    let scored = FUNCTIONS.iter().map(|(known, ..)| (*known, strsim::jaro_winkler(&wanted, known)));
    match scored.max_by(|(_, left), (_, right)| left.total_cmp(right)) {
        Some((nearest, score)) if score >= ALIKE => format!("`{nearest}`"),
        _ => format!("one of {}", FUNCTIONS.map(|(known, ..)| format!("`{known}`")).join(", ")),
    }
}

impl Function {
    /// Calls it. There are as many arguments as [`find`] was asked for.
    pub(super) fn call<'a>(self, mut arguments: impl Iterator<Item = Value<'a>>) -> Result<Value<'a>, Failure<'a>> {
        match self {
            Self::Concat => return join("", arguments),
            Self::ConcatWith => {
                let delimiter = arguments.next().map(Value::into_text).unwrap_or_default();
                return join(&delimiter, arguments);
            }
            _ => {}
        }
        let first = arguments.next().unwrap_or_else(|| Type::Unknown.zero());
        match self {
            Self::Concat | Self::ConcatWith => Ok(first),
            Self::Length => Ok(Value::Integer(i32::try_from(first.into_text().chars().count()).unwrap_or(i32::MAX))),
            Self::Lower => bounded(in_case(first.into_text(), str::to_lowercase)),
            Self::Upper => bounded(in_case(first.into_text(), str::to_uppercase)),
            Self::Trim => Ok(Value::Text(slice(first.into_text(), |text| text.trim()))),
            Self::Left | Self::Right => {
                let length = integer(arguments.next(), Type::Text)?;
                self.cut(first.into_text(), length)
            }
            Self::Substring => {
                let position = integer(arguments.next(), Type::Text)?;
                let length = arguments.next().map(|length| integer(Some(length), Type::Text)).transpose()?;
                substring(first.into_text(), position, length)
            }
            Self::Abs => {
                let value = integer(Some(first), Type::Integer)?;
                value.checked_abs().map(Value::Integer).ok_or((ErrorKind::Math, Value::Integer(i32::MAX)))
            }
            Self::Int => integer(Some(first), Type::Integer).map(Value::Integer),
            Self::Bool => first.boolean().map(Value::Boolean).ok_or((ErrorKind::Cast, Type::Boolean.zero())),
            Self::Text => Ok(Value::Text(first.into_text())),
            Self::IsBool => Ok(Value::Boolean(first.boolean().is_some())),
            Self::IsInt => Ok(Value::Boolean(first.integer().is_some())),
        }
    }

    /// LEFT and RIGHT.
    fn cut(self, text: Cow<'_, str>, length: i32) -> Result<Value<'_>, Failure<'_>> {
        let Ok(length) = usize::try_from(length) else {
            return Err((ErrorKind::FunctionEvaluation, Value::Text(text)));
        };
        Ok(Value::Text(slice(text, |text| {
            if self == Self::Left {
                text.get(..place(text, length)).unwrap_or(text)
            } else {
                let skipped = text.chars().count().saturating_sub(length);
                text.get(place(text, skipped)..).unwrap_or(text)
            }
        })))
    }
}

fn integer(value: Option<Value<'_>>, gives: Type) -> Result<i32, Failure<'static>> {
    value.and_then(|value| value.integer()).ok_or_else(|| (ErrorKind::Cast, gives.zero()))
}

fn bounded(text: Cow<'_, str>) -> Result<Value<'_>, Failure<'_>> {
    if text.len() > TEXT_BYTES_MAX { Err((ErrorKind::FunctionEvaluation, Type::Text.zero())) } else { Ok(Value::Text(text)) }
}

fn join<'a>(delimiter: &str, values: impl Iterator<Item = Value<'a>>) -> Result<Value<'a>, Failure<'a>> {
    let mut joined = String::new();
    for (at, value) in values.enumerate() {
        let text = value.into_text();
        let delimiter = if at == 0 { "" } else { delimiter };
        if joined.len() + delimiter.len() + text.len() > TEXT_BYTES_MAX {
            return Err((ErrorKind::FunctionEvaluation, Type::Text.zero()));
        }
        joined.push_str(delimiter);
        joined.push_str(&text);
    }
    Ok(Value::Text(Cow::Owned(joined)))
}

/// The text itself where it is in that case already.
fn in_case(text: Cow<'_, str>, case: impl Fn(&str) -> String) -> Cow<'_, str> {
    let other = case(&text);
    if other == *text { text } else { Cow::Owned(other) }
}

/// A part of a text, without a copy where the text is borrowed.
fn slice<'a>(text: Cow<'a, str>, part: impl for<'t> Fn(&'t str) -> &'t str) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(part(text)),
        Cow::Owned(text) => Cow::Owned(part(&text).to_owned()),
    }
}

/// Where this many characters end, in bytes.
fn place(text: &str, characters: usize) -> usize {
    text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at)
}

fn substring(text: Cow<'_, str>, position: i32, length: Option<i32>) -> Result<Value<'_>, Failure<'_>> {
    let failure = || (ErrorKind::FunctionEvaluation, Type::Text.zero());
    let characters = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let position = i64::from(position);
    let length = length.map(usize::try_from).transpose().map_err(|_| failure())?.unwrap_or(usize::MAX);
    if position == 0 {
        return Ok(Type::Text.zero());
    }
    if position > characters || position < -characters {
        return Err(failure());
    }
    let start = if position > 0 { position - 1 } else { characters + position };
    let start = usize::try_from(start).unwrap_or_default();
    Ok(Value::Text(slice(text, |text| {
        let rest = text.get(place(text, start)..).unwrap_or_default();
        rest.get(..place(rest, length)).unwrap_or(rest)
    })))
}

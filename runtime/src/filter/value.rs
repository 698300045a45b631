//! The three types of values, and casts between them.

use std::borrow::Cow;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// `true` or `false`.
    Boolean(bool),
    /// Of 32 bits.
    Integer(i32),
    /// A string.
    Text(Cow<'a, str>),
}

/// What is known of a value before there is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Boolean,
    Integer,
    Text,
    /// An extension, or a function that does not exist.
    Unknown,
}

impl Type {
    /// Its zero value; `false` where the type is not known.
    pub(super) fn zero(self) -> Value<'static> {
        match self {
            Self::Boolean | Self::Unknown => Value::Boolean(false),
            Self::Integer => Value::Integer(0),
            Self::Text => Value::Text(Cow::Borrowed("")),
        }
    }
}

impl<'a> Value<'a> {
    /// As a Boolean: the words in any case, and an integer that is not 0.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            Self::Integer(value) => Some(*value != 0),
            Self::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Self::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            Self::Text(_) => None,
        }
    }

    /// As an integer: digits with an optional sign, within 32 bits; `true` is 1.
    pub(super) fn integer(&self) -> Option<i32> {
        match self {
            Self::Boolean(value) => Some(i32::from(*value)),
            Self::Integer(value) => Some(*value),
            Self::Text(text) => text.parse().ok(),
        }
    }

    /// As a string; every value has one.
    pub(super) fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Boolean(true) => Cow::Borrowed("true"),
            Self::Boolean(false) => Cow::Borrowed("false"),
            Self::Integer(value) => Cow::Owned(value.to_string()),
            Self::Text(text) => text,
        }
    }

    /// As the type of another value.
    pub(super) fn cast_like(self, other: &Self) -> Option<Self> {
        match other {
            Self::Boolean(_) => self.boolean().map(Self::Boolean),
            Self::Integer(_) => self.integer().map(Self::Integer),
            Self::Text(_) => Some(Self::Text(self.into_text())),
        }
    }

    /// The type that the canonical string form of an attribute reads as.
    pub(super) fn from_canonical(text: Cow<'a, str>) -> Self {
        match text.parse::<i32>() {
            Ok(number) if number.to_string() == *text => Self::Integer(number),
            _ if text == "true" => Self::Boolean(true),
            _ if text == "false" => Self::Boolean(false),
            _ => Self::Text(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::Text(Cow::Borrowed(text))
    }

    #[test]
    fn casts() {
        let table = [
            (Value::Boolean(true), Some(true), Some(1), "true"),
            (Value::Boolean(false), Some(false), Some(0), "false"),
            (Value::Integer(0), Some(false), Some(0), "0"),
            (Value::Integer(-50), Some(true), Some(-50), "-50"),
            (text("TRUE"), Some(true), None, "TRUE"),
            (text("fAlSe"), Some(false), None, "fAlSe"),
            (text("+7"), None, Some(7), "+7"),
            (text("-2147483648"), None, Some(i32::MIN), "-2147483648"),
            (text("2147483648"), None, None, "2147483648"),
            (text(" 7"), None, None, " 7"),
            (text(""), None, None, ""),
            (text("yes"), None, None, "yes"),
        ];
        for (value, boolean, integer, as_text) in table {
            assert_eq!((value.boolean(), value.integer(), &*value.clone().into_text()), (boolean, integer, as_text), "{value:?}");
        }
    }

    #[test]
    fn canonical_forms() {
        let table = [
            ("10", Value::Integer(10)),
            ("-1", Value::Integer(-1)),
            ("010", text("010")),
            ("+1", text("+1")),
            ("true", Value::Boolean(true)),
            ("TRUE", text("TRUE")),
            ("", text("")),
        ];
        for (written, value) in table {
            assert_eq!(Value::from_canonical(Cow::Borrowed(written)), value, "{written}");
        }
    }
}

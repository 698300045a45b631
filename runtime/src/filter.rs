//! Filters: CloudEvents SQL 1.0 (CESQL) over the attributes of an event. No I/O, no clock.
//!
//! An expression is compiled once (`parser.rs` → `program.rs`) and then evaluated per event on a flat list of steps: no recursion, at
//! most two small allocations for the common comparison. Where the specification leaves a choice, or says one thing and its
//! conformance kit another, this is what holds here:
//!
//! - **Errors end the evaluation.** The value is then the zero value of the type that the expression has (`false`, 0, empty); a
//!   function that fails last, as in `LEFT('abc', -2)`, has the value that its definition names. AND, OR and IN stop as soon as their
//!   result is known, so what stands behind is not evaluated and can't fail.
//! - **A filter passes only what is `true` without an error.** An attribute that the event lacks is an error, so
//!   `subject = 'a' OR type = 'b'` does not pass an event without `subject`; `EXISTS subject AND …` asks first.
//! - **Precedence**, tightest first: `NOT` and `-`; `LIKE`, `EXISTS`, `IN`; `*` `/` `%`; `+` `-`; comparisons; `AND`; `OR`; `XOR`.
//!   `NOT` binds tighter than `=`: write `NOT (type = 'a')`.
//! - **Types of extensions.** An [`Event`] holds extensions in their canonical string form, because brokers and HTTP headers carry them
//!   so. They are strings that are cast where an operator or a function asks for another type. Only where an extension is the whole
//!   expression, it has the type that its text reads as, so that `mybool` is a filter.
//! - **Casts** go both ways between all three types; only `NOT` of an integer is a cast error (the kit holds it so).
//! - **Overflow** of `+ - * /` and of unary minus is a math error with value 0.
//! - In a literal, `\'` in `'…'` and `\"` in `"…"` are the quote, and so is a doubled quote; other backslashes stand for themselves.
//!
//! [`Filter::parse`] also refuses what the language allows and a filter can't mean: functions that don't exist, results that are no
//! Boolean, `data`. [`Expression`] is the plain language.

mod function;
mod lexer;
mod like;
mod parser;
mod program;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use crate::event::Event;

pub use value::Value;

/// Longest expression, in bytes: a list of some hundred event types fits; a file pasted by mistake does not.
pub const EXPRESSION_BYTES_MAX: usize = 16 << 10;

/// Deepest nesting of brackets, arguments and unary operators: far beyond what people write, far below what a thread's stack holds.
pub const NESTING_MAX: usize = 32;

/// Longest text that a function makes, in bytes: eight of the longest attributes joined. More is an error of that function.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// Most characters of an expression that an error of its evaluation repeats: a line of a log.
const EXPLAINED_MAX: usize = 80;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Expression);

impl Filter {
    /// Compiles a filter and checks that it can pass anything.
    ///
    /// # Errors
    /// Says where the text is no CloudEvents SQL, too long or nested too deep, or where it names what does not exist.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let (expression, objection) = parser::parse(text)?;
        objection.map_or_else(|| Ok(Self(expression)), Err)
    }

    /// Whether the event passes.
    ///
    /// # Errors
    /// Why the expression has no Boolean value for this event. Such an event does not pass (CESQL §1.2): the caller ends it as
    /// filtered, and counts or logs the error once.
    pub fn matches(&self, event: &Event) -> Result<bool, EvaluationError> {
        let Evaluation { value, error } = self.0.evaluate(event);
        match (value, error) {
            (_, Some(error)) => Err(error),
            (Value::Boolean(passes), None) => Ok(passes),
            (_, None) => Err(EvaluationError { kind: ErrorKind::Generic, place: 0..self.text().len() }),
        }
    }

    /// The expression as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// An error of [`Self::matches`] in words: what went wrong, and the piece of the expression. Holds nothing of the event.
    #[must_use]
    pub fn explain(&self, error: &EvaluationError) -> String {
        self.0.explain(error)
    }
}

/// A compiled expression of any type: the language as specified, without what [`Filter`] refuses beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    text: String,
    program: program::Program,
}

impl Expression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// Says where the text is no CloudEvents SQL, too long or nested too deep: the specification's `parse` error.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parser::parse(text).map(|(expression, _)| expression)
    }

    /// The value for this event, and the error that ended the evaluation, if any.
    #[must_use]
    pub fn evaluate<'a>(&'a self, event: &'a Event) -> Evaluation<'a> {
        self.program.evaluate(event)
    }

    /// An error of [`Self::evaluate`] in words.
    #[must_use]
    pub fn explain(&self, error: &EvaluationError) -> String {
        let piece = self.text.get(error.place.clone()).unwrap_or_default();
        let (piece, more) = match piece.char_indices().nth(EXPLAINED_MAX) {
            Some((end, _)) => (piece.get(..end).unwrap_or_default(), "…"),
            None => (piece, ""),
        };
        format!("{}: `{piece}{more}`", error.kind.in_words())
    }
}

/// What an expression came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation<'a> {
    /// Its value; after an error a zero value, or what the failing function names.
    pub value: Value<'a>,
    /// The first error.
    pub error: Option<EvaluationError>,
}

/// What kinds of errors the specification has (§3.3), but `parse`, which is a [`FilterError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A division by zero, or a result beyond 32 bits.
    Math,
    /// A value can't be read as the type that is asked for.
    Cast,
    /// The event lacks an attribute.
    MissingAttribute,
    /// No function of this name takes as many arguments.
    MissingFunction,
    /// A function can't work with its arguments.
    FunctionEvaluation,
    /// The result of a filter is no Boolean.
    Generic,
}

impl ErrorKind {
    /// Its name in the specification and its conformance kit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Math => "math",
            Self::Cast => "cast",
            Self::MissingAttribute => "missingAttribute",
            Self::MissingFunction => "missingFunction",
            Self::FunctionEvaluation => "functionEvaluation",
            Self::Generic => "generic",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Math => "division by zero or more than 32 bits",
            Self::Cast => "a value is not of the type that is asked for",
            Self::MissingAttribute => "the event lacks the attribute",
            Self::MissingFunction => "no such function",
            Self::FunctionEvaluation => "an argument is out of range",
            Self::Generic => "the result is no Boolean",
        }
    }
}

/// Why an expression has no proper value for one event. Cheap to make: it may happen for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .kind.in_words())]
pub struct EvaluationError {
    /// What kind.
    pub kind: ErrorKind,
    /// The piece of the expression that failed, in bytes.
    pub place: Range<usize>,
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FilterError {
    /// The piece of the text, in bytes, on the borders of characters; empty at the end of the text.
    pub place: Range<usize>,
    /// What was found there; a fragment.
    pub found: String,
    /// What has to stand there.
    pub expected: String,
}

impl FilterError {
    fn new(place: Range<usize>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { place, found: found.into(), expected: expected.into() }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} (expected {})", self.found, self.expected)
    }
}

//! A compiled expression: steps that work on a stack of values. `parser.rs` makes it; here it runs.
//!
//! Steps, and not a tree: a chain of five hundred ORs is then as deep as one, when it is evaluated and when it is dropped.

use std::borrow::Cow;
use std::ops::Range;

use super::function::Function;
use super::like::Pattern;
use super::value::{Type, Value};
use super::{ErrorKind, Evaluation, EvaluationError};
use crate::event::Event;

/// One step. "Takes" is from the top of the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Boolean(bool),
    Integer(i32),
    Text(String),
    /// The attribute of this name.
    Attribute(String),
    /// Gives an extension that is the whole expression the type that its text reads as.
    Typed,
    Exists(String),
    Not,
    Negate,
    Arithmetic(Arithmetic),
    Compare(Comparison),
    Xor,
    /// Takes a Boolean; where it is this one, it is the result, and what follows is left out.
    Decide {
        by: bool,
        to: usize,
    },
    /// The value on top becomes a Boolean.
    ToBoolean,
    Like {
        pattern: Pattern,
        negated: bool,
    },
    /// Takes an element; where it equals what is then on top, that becomes the result and the other elements are left out.
    Element {
        negated: bool,
        to: usize,
    },
    /// No element was equal: what is on top becomes the result.
    NoElement {
        negated: bool,
    },
    Call {
        function: Function,
        arguments: usize,
    },
    /// A call of what does not exist.
    NoFunction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Multiply,
    Divide,
    Remainder,
    Add,
    Subtract,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The steps of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) steps: Vec<Step>,
    /// For each step, the piece of the text that it stands for.
    pub(super) places: Vec<Range<usize>>,
    /// Most values on the stack at once.
    pub(super) stack: usize,
    /// What the expression gives.
    pub(super) gives: Type,
}

/// Why a step failed, and the value it has nevertheless.
type Failure<'a> = (ErrorKind, Value<'a>);

impl Program {
    pub(super) fn evaluate<'a>(&'a self, event: &'a Event) -> Evaluation<'a> {
        let mut stack = Vec::with_capacity(self.stack);
        let mut next = 0;
        while let Some(step) = self.steps.get(next) {
            let at = next;
            match step.run(&mut stack, event) {
                Ok(jump) => next = jump.unwrap_or(at + 1),
                Err((kind, value)) => {
                    let place = self.places.get(at).cloned().unwrap_or_default();
                    // A step that is not the last one failed within an operator or a function: that has its zero value.
                    let value = if at + 1 == self.steps.len() { value } else { self.gives.zero() };
                    return Evaluation { value, error: Some(EvaluationError { kind, place }) };
                }
            }
        }
        Evaluation { value: pop(&mut stack), error: None }
    }
}

/// The parser leaves no step without its values; `false` stands in for what can't be missing.
fn pop<'a>(stack: &mut Vec<Value<'a>>) -> Value<'a> {
    debug_assert!(!stack.is_empty(), "every step finds its values");
    stack.pop().unwrap_or(Value::Boolean(false))
}

fn cast<T>(value: Option<T>, gives: Type) -> Result<T, Failure<'static>> {
    value.ok_or_else(|| (ErrorKind::Cast, gives.zero()))
}

impl Step {
    /// Runs the step; answers which one is next where it is not the next one.
    fn run<'a>(&'a self, stack: &mut Vec<Value<'a>>, event: &'a Event) -> Result<Option<usize>, Failure<'a>> {
        let value = match self {
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Integer(value) => Value::Integer(*value),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Attribute(name) => {
                let text = event.attribute(name).ok_or((ErrorKind::MissingAttribute, Value::Boolean(false)))?;
                Value::Text(Cow::Borrowed(text))
            }
            Self::Typed => Value::from_canonical(pop(stack).into_text()),
            Self::Exists(name) => Value::Boolean(event.attribute(name).is_some()),
            Self::Not => Value::Boolean(!match pop(stack) {
                // What a failed cast leaves is false, and the conformance kit asks for its negation.
                Value::Integer(_) => return Err((ErrorKind::Cast, Value::Boolean(true))),
                other => other.boolean().ok_or((ErrorKind::Cast, Value::Boolean(true)))?,
            }),
            Self::Negate => {
                let value = cast(pop(stack).integer(), Type::Integer)?;
                Value::Integer(value.checked_neg().ok_or((ErrorKind::Math, Value::Integer(0)))?)
            }
            Self::Arithmetic(operator) => {
                let (right, left) = (pop(stack), pop(stack));
                let left = cast(left.integer(), Type::Integer)?;
                let right = cast(right.integer(), Type::Integer)?;
                Value::Integer(operator.of(left, right).ok_or((ErrorKind::Math, Value::Integer(0)))?)
            }
            Self::Compare(comparison) => {
                let (right, left) = (pop(stack), pop(stack));
                Value::Boolean(cast(comparison.of(left, right), Type::Boolean)?)
            }
            Self::Xor => {
                let (right, left) = (pop(stack), pop(stack));
                Value::Boolean(cast(left.boolean(), Type::Boolean)? != cast(right.boolean(), Type::Boolean)?)
            }
            Self::Decide { by, to } => {
                if cast(pop(stack).boolean(), Type::Boolean)? != *by {
                    return Ok(None);
                }
                stack.push(Value::Boolean(*by));
                return Ok(Some(*to));
            }
            Self::ToBoolean => Value::Boolean(cast(pop(stack).boolean(), Type::Boolean)?),
            Self::Like { pattern, negated } => Value::Boolean(pattern.matches(&pop(stack).into_text()) != *negated),
            Self::Element { negated, to } => {
                let (element, left) = (pop(stack), pop(stack));
                if cast(element.cast_like(&left), Type::Boolean)? != left {
                    stack.push(left);
                    return Ok(None);
                }
                stack.push(Value::Boolean(!negated));
                return Ok(Some(*to));
            }
            Self::NoElement { negated } => {
                pop(stack);
                Value::Boolean(*negated)
            }
            Self::Call { function, arguments } => {
                let from = stack.len().saturating_sub(*arguments);
                function.call(stack.drain(from..))?
            }
            Self::NoFunction => return Err((ErrorKind::MissingFunction, Value::Boolean(false))),
        };
        stack.push(value);
        Ok(None)
    }
}

impl Arithmetic {
    /// Nothing where the result has more than 32 bits, or there is none.
    fn of(self, left: i32, right: i32) -> Option<i32> {
        match self {
            Self::Multiply => left.checked_mul(right),
            Self::Divide => left.checked_div(right),
            // The remainder of the least integer by -1 is 0, though the quotient has too many bits.
            Self::Remainder => (right != 0).then(|| left.wrapping_rem(right)),
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
        }
    }
}

impl Comparison {
    /// Nothing where a value is not of the type that is compared: for equality that of the right one (§3.7), else integers.
    fn of(self, left: Value<'_>, right: Value<'_>) -> Option<bool> {
        if matches!(self, Self::Equal | Self::NotEqual) {
            return left.cast_like(&right).map(|left| (left == right) == (self == Self::Equal));
        }
        let (left, right) = (left.integer()?, right.integer()?);
        Some(match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            _ => left >= right,
        })
    }
}

//! Values and what stands before them: literals, attributes, brackets, calls, `NOT`, `-` and `EXISTS`.

use std::ops::Range;

use super::super::FilterError;
use super::super::function;
use super::super::lexer::Lexeme;
use super::super::program::Step;
use super::super::value::Type;
use super::{Parsed, Parser, UNARY};
use crate::event::CORE_ATTRIBUTES;

/// What may begin a value.
const A_VALUE: &str = "a value: an attribute, a literal, a function or `(`";

/// Words that no attribute can have as its name.
const KEYWORDS: [&str; 9] = ["AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE"];

impl Parser<'_> {
    /// A value, with the unary operators before it.
    pub(super) fn value(&mut self) -> Parsed<Type> {
        let token = self.peek();
        let start = token.place.start;
        match token.lexeme {
            Lexeme::Symbol("(") => {
                self.advance();
                let (gives, _) = self.deeper(|parser| parser.expression(0))?;
                if !self.take(")") {
                    return Err(self.unexpected("an operator or `)`"));
                }
                Ok(gives)
            }
            Lexeme::Symbol(sign @ ("-" | "+")) => self.signed(sign, token.place),
            Lexeme::Digits(digits) => {
                self.advance();
                self.integer(digits, token.place)
            }
            Lexeme::Text(text) => {
                self.advance();
                self.emit(Step::Text(text.into_owned()), 0, token.place);
                Ok(Type::Text)
            }
            Lexeme::Word(word) => match word.to_ascii_uppercase().as_str() {
                "NOT" => {
                    self.advance();
                    self.not(start)
                }
                "EXISTS" => {
                    self.advance();
                    let name = self.attribute_name()?;
                    self.emit(Step::Exists(name), 0, start..self.end());
                    Ok(Type::Boolean)
                }
                flag @ ("TRUE" | "FALSE") => {
                    self.advance();
                    self.emit(Step::Boolean(flag == "TRUE"), 0, token.place);
                    Ok(Type::Boolean)
                }
                keyword if KEYWORDS.contains(&keyword) => Err(self.unexpected(A_VALUE)),
                _ if self.peek_at(1).lexeme == Lexeme::Symbol("(") => self.call(word, start),
                _ => self.attribute(start),
            },
            Lexeme::Symbol(_) | Lexeme::End => Err(self.unexpected(A_VALUE)),
        }
    }

    /// A sign that touches digits belongs to the literal, so that the least integer can be written.
    fn signed(&mut self, sign: &str, place: Range<usize>) -> Parsed<Type> {
        let next = self.peek_at(1);
        if let Lexeme::Digits(_) = next.lexeme
            && next.place.start == place.end
        {
            self.next += 2;
            let literal = place.start..next.place.end;
            return self.integer(self.text.get(literal.clone()).unwrap_or_default(), literal);
        }
        if sign == "+" {
            return Err(self.unexpected(A_VALUE));
        }
        self.advance();
        self.deeper(|parser| parser.expression(UNARY))?;
        self.emit(Step::Negate, 1, place.start..self.end());
        Ok(Type::Integer)
    }

    fn integer(&mut self, literal: &str, place: Range<usize>) -> Parsed<Type> {
        let Ok(value) = literal.parse() else {
            let expected = format!("an integer from {} to {}", i32::MIN, i32::MAX);
            return Err(FilterError::new(place, "an integer of more than 32 bits", expected));
        };
        self.emit(Step::Integer(value), 0, place);
        Ok(Type::Integer)
    }

    fn not(&mut self, start: usize) -> Parsed<Type> {
        self.deeper(|parser| parser.expression(UNARY))?;
        if let Some(Step::Attribute(name)) = self.program.steps.last()
            && CORE_ATTRIBUTES.contains(&name.as_str())
        {
            let found = format!("`NOT` is applied to `{name}` alone, which is no Boolean");
            self.object(start..self.end(), found, "`NOT (…)` around the comparison, or `!=`, `NOT LIKE`, `NOT IN`");
        }
        self.emit(Step::Not, 1, start..self.end());
        Ok(Type::Boolean)
    }

    fn attribute_name(&mut self) -> Parsed<String> {
        const A_NAME: &str = "the name of an attribute: letters and digits";
        let token = self.peek();
        let (Lexeme::Word(name) | Lexeme::Digits(name)) = token.lexeme else {
            return Err(self.unexpected(A_NAME));
        };
        if name.contains('_') || KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name)) {
            return Err(self.unexpected(A_NAME));
        }
        self.advance();
        let name = name.to_ascii_lowercase();
        if name == "data" {
            let found = "`data` is no attribute: filters see attributes only".to_owned();
            self.object(token.place, found, "an attribute that the producer sets, such as `type` or an extension");
        }
        Ok(name)
    }

    fn attribute(&mut self, start: usize) -> Parsed<Type> {
        let name = self.attribute_name()?;
        let gives = if CORE_ATTRIBUTES.contains(&name.as_str()) { Type::Text } else { Type::Unknown };
        self.emit(Step::Attribute(name), 0, start..self.end());
        Ok(gives)
    }

    fn call(&mut self, name: &str, start: usize) -> Parsed<Type> {
        if name.bytes().any(|b| b.is_ascii_digit()) || name.starts_with('_') {
            return Err(self.unexpected("the name of a function: letters and `_`, a letter first"));
        }
        self.next += 2;
        let mut arguments = 0;
        if !self.is_symbol(")") {
            loop {
                self.deeper(|parser| parser.expression(0))?;
                arguments += 1;
                if !self.take(",") {
                    break;
                }
            }
        }
        if !self.take(")") {
            return Err(self.unexpected("`,` or `)`"));
        }
        let place = start..self.end();
        if let Some((function, gives)) = function::find(name, arguments) {
            self.emit(Step::Call { function, arguments }, arguments, place);
            return Ok(gives);
        }
        let found = match arguments {
            1 => format!("there is no function `{name}` of one argument"),
            arguments => format!("there is no function `{name}` of {arguments} arguments"),
        };
        self.object(start..start + name.len(), found, function::expected(name));
        self.emit(Step::NoFunction, arguments, place);
        Ok(Type::Unknown)
    }
}

//! The grammar: from the pieces of a text to a [`Program`], in one pass by precedence, without a tree between.

use std::ops::Range;

use super::function;
use super::lexer::{self, Lexeme, Token};
use super::like::Pattern;
use super::program::{Arithmetic, Comparison, Program, Step};
use super::value::Type;
use super::{EXPRESSION_BYTES_MAX, Expression, FilterError, NESTING_MAX};
use crate::event::CORE_ATTRIBUTES;

/// What may begin a value.
const A_VALUE: &str = "a value: an attribute, a literal, a function or `(`";

/// Words that no attribute can have as its name.
const KEYWORDS: [&str; 9] = ["AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE"];

/// An operator with a value on its left, and how tightly it binds.
enum Operator {
    Logic(Logic),
    Binary(Step, Type),
    Like,
    In,
    /// `NOT`, before LIKE or IN.
    Not,
}

#[derive(Clone, Copy)]
enum Logic {
    And,
    Or,
    Xor,
}

/// LIKE, IN and EXISTS bind tighter than any operator between two values, NOT and - tighter still.
const TIGHT: u8 = 7;
const UNARY: u8 = 8;

/// Compiles; also says what makes it useless as a filter, the first such thing.
pub(super) fn parse(text: &str) -> Result<(Expression, Option<FilterError>), FilterError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let found = format!("an expression of {} bytes", text.len());
        return Err(FilterError::new(0..0, found, format!("at most {} KiB", EXPRESSION_BYTES_MAX >> 10)));
    }
    let tokens = lexer::split(text)?;
    let program = Program { steps: Vec::new(), places: Vec::new(), stack: 0, gives: Type::Unknown };
    let mut parser = Parser { text, tokens, next: 0, nesting: 0, height: 0, program, objection: None };
    let (gives, _) = parser.expression(0)?;
    if parser.peek().lexeme != Lexeme::End {
        let expected = "an operator (`AND`, `OR`, `=`, `LIKE`, …) or the end of the expression";
        return Err(parser.unexpected(expected));
    }
    parser.program.gives = gives;
    parser.judge_result();
    let expression = Expression { text: text.to_owned(), program: parser.program };
    Ok((expression, parser.objection))
}

struct Parser<'t> {
    text: &'t str,
    /// Never empty: the last one is the end, and is never passed.
    tokens: Vec<Token<'t>>,
    next: usize,
    nesting: usize,
    /// Values on the stack behind the steps so far.
    height: usize,
    program: Program,
    objection: Option<FilterError>,
}

type Parsed<T> = Result<T, FilterError>;

impl<'t> Parser<'t> {
    fn peek(&self) -> Token<'t> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Token<'t> {
        let end = || Token { lexeme: Lexeme::End, place: self.text.len()..self.text.len() };
        self.tokens.get(self.next + ahead).cloned().unwrap_or_else(end)
    }

    fn advance(&mut self) -> Token<'t> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek().lexeme, Lexeme::Symbol(found) if found == symbol)
    }

    fn take(&mut self, symbol: &'static str) -> bool {
        let found = self.is_symbol(symbol);
        self.next += usize::from(found);
        found
    }

    fn unexpected(&self, expected: &str) -> FilterError {
        let token = self.peek();
        let found = format!("{} is not expected here", lexer::shown(&token, self.text));
        FilterError::new(token.place, found, expected)
    }

    fn object(&mut self, place: Range<usize>, found: String, expected: impl Into<String>) {
        self.objection.get_or_insert_with(|| FilterError::new(place, found, expected));
    }

    /// Adds a step that takes so many values and leaves one.
    fn emit(&mut self, step: Step, takes: usize, place: Range<usize>) {
        self.program.steps.push(step);
        self.program.places.push(place);
        self.height = self.height.saturating_sub(takes) + 1;
        self.program.stack = self.program.stack.max(self.height);
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting >= NESTING_MAX {
            let expected = format!("at most {NESTING_MAX} levels of brackets, arguments, `NOT` and `-`");
            return Err(FilterError::new(self.peek().place, "the expression is nested too deep", expected));
        }
        self.nesting += 1;
        let read = read(self);
        self.nesting -= 1;
        read
    }

    /// An expression whose operators bind at least so tightly. Answers its type and where it begins.
    fn expression(&mut self, least: u8) -> Parsed<(Type, usize)> {
        let start = self.peek().place.start;
        let mut gives = self.value()?;
        while let Some((operator, binds)) = self.operator() {
            if binds < least {
                break;
            }
            gives = self.operation(operator, binds, start)?;
        }
        Ok((gives, start))
    }

    /// The operator that comes next, if it is one.
    fn operator(&self) -> Option<(Operator, u8)> {
        let binary = |step, gives, binds| Some((Operator::Binary(step, gives), binds));
        let compare = |comparison| binary(Step::Compare(comparison), Type::Boolean, 4);
        let arithmetic = |operator, binds| binary(Step::Arithmetic(operator), Type::Integer, binds);
        match self.peek().lexeme {
            Lexeme::Symbol("=") => compare(Comparison::Equal),
            Lexeme::Symbol("!=") => compare(Comparison::NotEqual),
            Lexeme::Symbol("<") => compare(Comparison::Less),
            Lexeme::Symbol("<=") => compare(Comparison::LessOrEqual),
            Lexeme::Symbol(">") => compare(Comparison::Greater),
            Lexeme::Symbol(">=") => compare(Comparison::GreaterOrEqual),
            Lexeme::Symbol("+") => arithmetic(Arithmetic::Add, 5),
            Lexeme::Symbol("-") => arithmetic(Arithmetic::Subtract, 5),
            Lexeme::Symbol("*") => arithmetic(Arithmetic::Multiply, 6),
            Lexeme::Symbol("/") => arithmetic(Arithmetic::Divide, 6),
            Lexeme::Symbol("%") => arithmetic(Arithmetic::Remainder, 6),
            Lexeme::Word(word) => match word.to_ascii_uppercase().as_str() {
                "XOR" => Some((Operator::Logic(Logic::Xor), 1)),
                "OR" => Some((Operator::Logic(Logic::Or), 2)),
                "AND" => Some((Operator::Logic(Logic::And), 3)),
                "LIKE" => Some((Operator::Like, TIGHT)),
                "IN" => Some((Operator::In, TIGHT)),
                "NOT" => Some((Operator::Not, TIGHT)),
                _ => None,
            },
            _ => None,
        }
    }

    /// What follows a value, from its operator on.
    fn operation(&mut self, operator: Operator, binds: u8, start: usize) -> Parsed<Type> {
        self.advance();
        match operator {
            Operator::Logic(Logic::Xor) => self.binary(Step::Xor, binds, start).map(|()| Type::Boolean),
            Operator::Logic(logic) => self.short_circuit(matches!(logic, Logic::Or), binds, start),
            Operator::Binary(step, gives) => self.binary(step, binds, start).map(|()| gives),
            Operator::Like => self.like(false, start),
            Operator::In => self.within(false, start),
            Operator::Not if self.take_word("LIKE") => self.like(true, start),
            Operator::Not if self.take_word("IN") => self.within(true, start),
            Operator::Not => Err(self.unexpected("`LIKE` or `IN` behind `NOT`")),
        }
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek().lexeme, Lexeme::Word(word) if word.eq_ignore_ascii_case(wanted));
        self.next += usize::from(found);
        found
    }

    /// Where the piece before the next one ends.
    fn end(&self) -> usize {
        self.next.checked_sub(1).and_then(|last| self.tokens.get(last)).map_or(0, |token| token.place.end)
    }

    fn binary(&mut self, step: Step, binds: u8, start: usize) -> Parsed<()> {
        self.expression(binds + 1)?;
        self.emit(step, 2, start..self.end());
        Ok(())
    }

    /// AND and OR: the right side runs only where the left one does not decide.
    fn short_circuit(&mut self, by: bool, binds: u8, start: usize) -> Parsed<Type> {
        let decision = self.program.steps.len();
        self.emit(Step::Decide { by, to: 0 }, 1, start..self.end());
        // On the way past it, its value is taken.
        self.height -= 1;
        let (_, right) = self.expression(binds + 1)?;
        self.emit(Step::ToBoolean, 1, right..self.end());
        let behind = self.program.steps.len();
        if let Some(Step::Decide { to, .. }) = self.program.steps.get_mut(decision) {
            *to = behind;
        }
        Ok(Type::Boolean)
    }

    fn like(&mut self, negated: bool, start: usize) -> Parsed<Type> {
        let Lexeme::Text(pattern) = self.peek().lexeme else {
            return Err(self.unexpected("a pattern in quotes, such as `'com.example.%'`"));
        };
        self.advance();
        self.emit(Step::Like { pattern: Pattern::new(&pattern), negated }, 1, start..self.end());
        Ok(Type::Boolean)
    }

    fn within(&mut self, negated: bool, start: usize) -> Parsed<Type> {
        if !self.take("(") {
            return Err(self.unexpected("a set in brackets, such as `('a', 'b')`"));
        }
        let first = self.program.steps.len();
        loop {
            let (_, element) = self.deeper(|parser| parser.expression(0))?;
            self.emit(Step::Element { negated, to: 0 }, 2, element..self.end());
            if !self.take(",") {
                break;
            }
        }
        if !self.take(")") {
            return Err(self.unexpected("`,` or `)`"));
        }
        self.emit(Step::NoElement { negated }, 1, start..self.end());
        let behind = self.program.steps.len();
        for step in self.program.steps.iter_mut().skip(first) {
            // Elements of a set within this one know their end already.
            if let Step::Element { to: to @ 0, .. } = step {
                *to = behind;
            }
        }
        Ok(Type::Boolean)
    }

    /// A value, with the unary operators before it.
    fn value(&mut self) -> Parsed<Type> {
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

    /// An extension alone has the type of its text; whatever else is no Boolean passes nothing.
    fn judge_result(&mut self) {
        let whole = 0..self.text.trim_end().len();
        let noun = match self.program.gives {
            Type::Boolean => return,
            Type::Unknown => {
                if let [Step::Attribute(_)] = self.program.steps.as_slice() {
                    self.emit(Step::Typed, 1, whole);
                }
                return;
            }
            Type::Integer => "an integer",
            Type::Text => "a text",
        };
        self.object(whole, format!("the result is {noun}"), "`true` or `false`, such as of a comparison");
    }
}

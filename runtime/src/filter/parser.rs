//! The grammar: from the pieces of a text to a [`Program`], in one pass by precedence, without a tree between. Operators are here,
//! values in `parser/operand.rs`.

mod operand;

use std::ops::Range;

use super::lexer::{self, Lexeme, Token};
use super::like::Pattern;
use super::program::{Arithmetic, Comparison, Program, Step};
use super::value::Type;
use super::{EXPRESSION_BYTES_MAX, Expression, FilterError, NESTING_MAX};

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

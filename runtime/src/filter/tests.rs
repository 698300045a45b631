//! What [`Filter`] adds to the language: where errors stand, what is refused, what passes, and its bounds. What expressions mean is
//! told by the cases in `tests/cesql`.

use proptest::prelude::*;

use super::*;

fn event(extensions: &[(&str, &str)]) -> Event {
    let mut event = Event { id: "1".into(), source: "/shop".into(), kind: "qa.done".into(), ..Event::default() };
    for (name, value) in extensions {
        event.set(name, (*value).to_owned()).unwrap();
    }
    event
}

/// What is wrong with a text, with the piece underlined.
fn wrong(text: &str) -> (String, String) {
    let error = Filter::parse(text).unwrap_err();
    (text[error.place.clone()].to_owned(), error.to_string())
}

#[test]
fn syntax_errors_say_place_found_and_expected() {
    let value = "a value: an attribute, a literal, a function or `(`";
    let operator = "an operator (`AND`, `OR`, `=`, `LIKE`, …) or the end of the expression";
    let table = [
        ("", "", format!("the end of the expression is not expected here (expected {value})")),
        ("type =", "", format!("the end of the expression is not expected here (expected {value})")),
        ("type = AND x", "AND", format!("`AND` is not expected here (expected {value})")),
        ("type = 'a' AN subject", "AN", format!("`AN` is not expected here (expected {operator})")),
        ("type == 'a'", "=", format!("`=` is not expected here (expected {value})")),
        ("TRUE)", ")", format!("`)` is not expected here (expected {operator})")),
        ("(TRUE", "", "the end of the expression is not expected here (expected an operator or `)`)".into()),
        ("id LIKE 5", "5", "`5` is not expected here (expected a pattern in quotes, such as `'com.example.%'`)".into()),
        ("id IN 'a'", "'a'", "`'a'` is not expected here (expected a set in brackets, such as `('a', 'b')`)".into()),
        ("id IN ('a' 'b')", "'b'", "`'b'` is not expected here (expected `,` or `)`)".into()),
        ("id NOT = 'a'", "=", "`=` is not expected here (expected `LIKE` or `IN` behind `NOT`)".into()),
        ("id = 'ä", "'ä", r"a text that is not closed (expected a `'` that closes the text; inside it, `\'` is a quote)".into()),
        (
            "id = “a”",
            "“",
            "`“`, which CloudEvents SQL does not have (expected an operator, a value or a bracket; texts stand in quotes)".into(),
        ),
        (
            "n < 2147483648",
            "2147483648",
            "an integer of more than 32 bits (expected an integer from -2147483648 to 2147483647)".into(),
        ),
        ("my_ext = 1", "my_ext", "`my_ext` is not expected here (expected the name of an attribute: letters and digits)".into()),
    ];
    for (text, place, message) in table {
        assert_eq!(wrong(text), (place.to_owned(), message), "{text}");
    }
}

#[test]
fn what_can_pass_nothing_is_refused() {
    let boolean = "(expected `true` or `false`, such as of a comparison)";
    let table = [
        ("1 + 1", "1 + 1", format!("the result is an integer {boolean}")),
        (" UPPER(myext) ", " UPPER(myext)", format!("the result is a text {boolean}")),
        ("type", "type", format!("the result is a text {boolean}")),
        ("LENGHT(id) > 5", "LENGHT", "there is no function `LENGHT` of one argument (expected `LENGTH`)".into()),
        ("LEFT(id) = 'a'", "LEFT", "there is no function `LEFT` of one argument (expected 2 arguments of `LEFT`)".into()),
        (
            "substring() = 'a'",
            "substring",
            "there is no function `substring` of 0 arguments (expected 2 or 3 arguments of `SUBSTRING`)".into(),
        ),
        (
            "concat_ws() = 'a'",
            "concat_ws",
            "there is no function `concat_ws` of 0 arguments (expected at least one argument of `CONCAT_WS`)".into(),
        ),
        (
            "EXISTS data",
            "data",
            "`data` is no attribute: filters see attributes only (expected an attribute that the producer sets, such as \
             `type` or an extension)"
                .into(),
        ),
        (
            "NOT type = 'a'",
            "NOT type",
            "`NOT` is applied to `type` alone, which is no Boolean (expected `NOT (…)` around the comparison, or `!=`, \
             `NOT LIKE`, `NOT IN`)"
                .into(),
        ),
    ];
    for (text, place, message) in table {
        assert_eq!(wrong(text), (place.to_owned(), message), "{text}");
        assert!(Expression::parse(text).is_ok(), "{text} is CloudEvents SQL");
    }
    assert!(wrong("FOO(1) = 1").1.contains("expected one of `LENGTH`, `CONCAT`"));
}

#[test]
fn only_true_passes() {
    let event = event(&[("flag", "true"), ("word", "yes"), ("n", "1")]);
    let table = [
        ("type LIKE 'qa.%'", Ok(true)),
        ("type = 'other'", Ok(false)),
        ("flag", Ok(true)),
        ("word", Err(ErrorKind::Generic)),
        ("n", Err(ErrorKind::Generic)),
        ("subject = 'a'", Err(ErrorKind::MissingAttribute)),
        ("subject = 'a' OR type = 'qa.done'", Err(ErrorKind::MissingAttribute)),
        ("type = 'qa.done' OR subject = 'a'", Ok(true)),
        ("word = 1", Err(ErrorKind::Cast)),
        ("n / 0 = 1", Err(ErrorKind::Math)),
        ("LEFT(id, -1) = ''", Err(ErrorKind::FunctionEvaluation)),
    ];
    for (text, expected) in table {
        let passes = Filter::parse(text).unwrap().matches(&event);
        assert_eq!(passes.map_err(|error| error.kind), expected, "{text}");
    }
}

#[test]
fn errors_are_explained_by_the_expression_alone() {
    let event = event(&[("secretish", "do not tell")]);
    let table = [
        ("type = 'a' OR subject = 'b'", "the event lacks the attribute: `subject`"),
        ("type = 'a' OR secretish > 5", "a value is not of the type that is asked for: `secretish > 5`"),
        ("1 / (2 - 2) = 1", "division by zero or more than 32 bits: `1 / (2 - 2)`"),
        ("id = LEFT('a', -5)", "an argument is out of range: `LEFT('a', -5)`"),
        ("NOT (id = '1') AND TRUE OR 'no'", "a value is not of the type that is asked for: `'no'`"),
        ("secretish", "the result is no Boolean: `secretish`"),
    ];
    for (text, explained) in table {
        let filter = Filter::parse(text).unwrap();
        assert_eq!(filter.explain(&filter.matches(&event).unwrap_err()), explained, "{text}");
    }
    let filter = Filter::parse(&format!("secretish > {}1", " ".repeat(100))).unwrap();
    assert_eq!(filter.explain(&filter.matches(&event).unwrap_err()).chars().filter(|c| *c == '…').count(), 1);
}

/// Each bracket behind operators of every precedence: the deepest that the parser can be called.
const EVERY_LEVEL: (&str, &str, &str) = ("1 XOR 1 OR 1 AND 1 = 1 + 1 * (", "1", ")");

#[test]
fn length_and_nesting_are_bounded() {
    let list = |count: usize| format!("type IN ({})", vec!["'com.example.event.of.some.kind'"; count].join(", "));
    assert!(list(480).len() < EXPRESSION_BYTES_MAX && Filter::parse(&list(480)).is_ok());
    assert!(wrong(&list(600)).1.ends_with("(expected at most 16 KiB)"));
    for (open, inside, close) in
        [("(", "TRUE", ")"), ("NOT ", "TRUE", ""), ("BOOL(", "TRUE", ")"), ("TRUE IN (", "TRUE", ")"), EVERY_LEVEL]
    {
        let nested = |depth: usize| format!("{}{inside}{}", open.repeat(depth), close.repeat(depth));
        assert!(Filter::parse(&nested(NESTING_MAX)).is_ok(), "{open}");
        let (_, message) = wrong(&nested(NESTING_MAX + 1));
        assert!(message.starts_with("the expression is nested too deep (expected at most 32 levels"), "{message}");
        assert!(Filter::parse(&nested(EXPRESSION_BYTES_MAX / (open.len() + close.len() + 1))).is_err(), "{open}");
    }
}

/// Chains are not nested: as long as a filter may be, they are evaluated without recursion.
#[test]
fn long_chains_are_flat() {
    let event = event(&[]);
    for (text, passes) in [
        (format!("FALSE{} OR TRUE", " OR FALSE".repeat(1_700)), true),
        (format!("0{} = 4000", "+1".repeat(4_000)), true),
        (format!("TRUE{}", " AND TRUE".repeat(1_700)), true),
        (format!("TRUE{}", " = TRUE".repeat(2_000)), true),
        (format!("TRUE{}", " IN(TRUE)".repeat(1_700)), true),
    ] {
        let filter = Filter::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(filter.matches(&event).map_err(|error| error.kind), Ok(passes));
        assert!(filter.0.program.stack <= 2, "{}", filter.0.program.stack);
    }
}

#[test]
fn texts_that_functions_make_are_bounded() {
    let long = "x".repeat(crate::event::ATTRIBUTE_BYTES_MAX);
    let event = event(&[("long", &long)]);
    let joined = |count: usize| format!("LENGTH(CONCAT({})) > 0", vec!["long"; count].join(","));
    assert_eq!(Filter::parse(&joined(8)).unwrap().matches(&event), Ok(true));
    let error = Filter::parse(&joined(9)).unwrap().matches(&event).unwrap_err();
    assert_eq!(error.kind, ErrorKind::FunctionEvaluation);
}

/// Pieces of expressions, for texts that often are expressions.
const PIECES: [&str; 40] = [
    "TRUE",
    "FALSE",
    "type",
    "id",
    "missing",
    "flag",
    "n",
    "'a'",
    "\"b\"",
    "'qa.%'",
    "''",
    "0",
    "1",
    "-5",
    "2147483647",
    "(",
    ")",
    ",",
    "AND",
    "OR",
    "XOR",
    "NOT",
    "LIKE",
    "IN (",
    "EXISTS",
    "=",
    "!=",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "LENGTH(",
    "CONCAT(",
    "LEFT(",
    "SUBSTRING(",
    "INT(",
    "'",
];

/// Compiles and evaluates; whatever comes out has its place in the text.
fn answers(text: &str) {
    let event = event(&[("flag", "true"), ("n", "-7")]);
    match Expression::parse(text) {
        Err(error) => assert!(text.get(error.place.clone()).is_some(), "{text:?}: {error:?}"),
        Ok(expression) => {
            let evaluation = expression.evaluate(&event);
            if let Some(error) = evaluation.error {
                assert!(text.get(error.place.clone()).is_some_and(|piece| !piece.is_empty()), "{text:?}: {error:?}");
            }
            assert_eq!(expression.evaluate(&event), expression.evaluate(&event));
        }
    }
    if let Ok(filter) = Filter::parse(text) {
        let evaluation = filter.0.evaluate(&event);
        let passes = evaluation.error.is_none() && evaluation.value == Value::Boolean(true);
        assert_eq!(filter.matches(&event) == Ok(true), passes);
    }
}

/// An expression with the value that it has, by plain recursion.
fn logic() -> impl Strategy<Value = (String, bool)> {
    let leaf = any::<bool>().prop_map(|value| (value.to_string(), value));
    leaf.prop_recursive(5, 40, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|(text, value)| (format!("NOT ({text})"), !value)),
            (inner.clone(), inner.clone()).prop_map(|((a, x), (b, y))| (format!("({a}) AND ({b})"), x && y)),
            (inner.clone(), inner.clone()).prop_map(|((a, x), (b, y))| (format!("({a}) or ({b})"), x || y)),
            (inner.clone(), inner.clone()).prop_map(|((a, x), (b, y))| (format!("({a}) XOR ({b})"), x != y)),
            (inner.clone(), inner.clone()).prop_map(|((a, x), (b, y))| (format!("({a}) = ({b})"), x == y)),
            (inner.clone(), inner).prop_map(|((a, x), (b, y))| (format!("({a}) NOT IN (({b}), ({b}))"), x != y)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        answers(&text);
    }

    #[test]
    fn text_like_an_expression_is_answered(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24)) {
        answers(&pieces.join(" "));
        answers(&pieces.concat());
    }

    #[test]
    fn logic_is_as_in_rust((text, value) in logic()) {
        prop_assert_eq!(Filter::parse(&text).unwrap().matches(&event(&[])), Ok(value), "{}", text);
    }

    #[test]
    fn literals_come_back(text in any::<String>()) {
        // A backslash before another character keeps it: only quotes need one, and one at the end can't be written.
        prop_assume!(!text.contains('\\'));
        for quote in ['\'', '"'] {
            let literal = format!("{quote}{}{quote}", text.replace(quote, &format!("\\{quote}")));
            let expression = Expression::parse(&literal).unwrap();
            let event = event(&[]);
            prop_assert_eq!(expression.evaluate(&event).value, Value::Text(text.as_str().into()));
        }
    }

    #[test]
    fn integers_come_back(number in any::<i32>(), other in any::<i32>()) {
        let sum = format!("{number} + {other}");
        let expression = Expression::parse(&sum).unwrap();
        let event = event(&[]);
        let evaluation = expression.evaluate(&event);
        match number.checked_add(other) {
            Some(sum) => prop_assert_eq!(evaluation, Evaluation { value: Value::Integer(sum), error: None }),
            None => prop_assert_eq!(evaluation.error.map(|error| error.kind), Some(ErrorKind::Math)),
        }
    }
}

//! One difference, and how it reads: what was expected after `-`, what was found after `+`, of texts line by line.

use serde::Serialize;
use serde_json::Value as Json;

/// Most lines of each text that are compared line by line: the table of comparisons has the square of it.
const LINES_MAX: usize = 400;

/// Most lines of one difference that are shown: a mail of some pages.
const SHOWN_MAX: usize = 60;

/// Something that is otherwise than expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What: `email[0].subject`, with the step before it where a case has several.
    #[serde(rename = "key")]
    pub at: String,
    /// What the case expects.
    pub expected: String,
    /// What there is.
    pub found: String,
    /// Both are texts as a whole, so lines of one are missing in the other.
    #[serde(skip)]
    whole: bool,
}

impl Difference {
    /// Between two things that are told in words.
    #[must_use]
    pub fn said(at: &str, expected: &str, found: &str) -> Self {
        Self { at: at.to_owned(), expected: expected.to_owned(), found: found.to_owned(), whole: false }
    }

    /// Between two values.
    #[must_use]
    pub fn values(at: &str, expected: &Json, found: &Json) -> Self {
        let text = |value: &Json| match value {
            Json::Null => "nothing".to_owned(),
            Json::String(text) => text.clone(),
            Json::Object(_) => serde_json::to_string_pretty(value).unwrap_or_default(),
            value => value.to_string(),
        };
        Self { at: at.to_owned(), expected: text(expected), found: text(found), whole: true }
    }

    /// As people read it: the place, then lines that begin with `-`, `+` or a space.
    #[must_use]
    pub fn render(&self) -> String {
        let (expected, found): (Vec<&str>, Vec<&str>) = (self.expected.lines().collect(), self.found.lines().collect());
        let lines = if self.whole && expected.len().max(found.len()) <= LINES_MAX {
            compared(&expected, &found)
        } else {
            marked('-', &expected).chain(marked('+', &found)).collect()
        };
        let mut text = format!("{}\n", self.at);
        for line in lines.iter().take(SHOWN_MAX) {
            text.push_str("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if lines.len() > SHOWN_MAX {
            text.push_str(&format!("  ({} lines more; `--json` has all)\n", lines.len() - SHOWN_MAX));
        }
        if self.expected != self.found && lines.iter().all(|line| line.starts_with(' ')) {
            text.push_str("  (the line ends at the end differ)\n");
        }
        text
    }
}

fn marked<'a>(mark: char, lines: &'a [&'a str]) -> impl Iterator<Item = String> + 'a {
    // An empty text is a line all the same: what is expected or found is shown.
    let none: &[&str] = if lines.is_empty() { &["\"\""] } else { &[] };
    lines.iter().chain(none).map(move |line| format!("{mark} {line}"))
}

/// The longest common subsequence of lines, and what is around it.
fn compared(expected: &[&str], found: &[&str]) -> Vec<String> {
    if expected.is_empty() || found.is_empty() {
        return marked('-', expected).chain(marked('+', found)).collect();
    }
    let width = found.len() + 1;
    // How many lines the ends from here on have in common.
    let mut common = vec![0_usize; (expected.len() + 1) * width];
    let at = |left: usize, right: usize| left * width + right;
    let get = |common: &[usize], left, right| common.get(at(left, right)).copied().unwrap_or_default();
    for (left, one) in expected.iter().enumerate().rev() {
        for (right, other) in found.iter().enumerate().rev() {
            let longest = if one == other {
                get(&common, left + 1, right + 1) + 1
            } else {
                get(&common, left + 1, right).max(get(&common, left, right + 1))
            };
            if let Some(cell) = common.get_mut(at(left, right)) {
                *cell = longest;
            }
        }
    }
    let (mut left, mut right, mut lines) = (0, 0, Vec::new());
    loop {
        match (expected.get(left), found.get(right)) {
            (Some(one), Some(other)) if one == other => {
                lines.push(format!("  {one}"));
                (left, right) = (left + 1, right + 1);
            }
            (Some(one), other) if other.is_none() || get(&common, left + 1, right) >= get(&common, left, right + 1) => {
                lines.push(format!("- {one}"));
                left += 1;
            }
            (_, Some(other)) => {
                lines.push(format!("+ {other}"));
                right += 1;
            }
            (_, None) => return lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_compared_line_by_line() {
        let found = Difference::values("email[0].text", &json!("a\nb\nc\n"), &json!("a\nx\nc\nd\n"));
        assert_eq!(found.render(), "email[0].text\n    a\n  - b\n  + x\n    c\n  + d\n");
        let one = Difference::values("subject", &json!("Hello"), &json!("Hallo"));
        assert_eq!(one.render(), "subject\n  - Hello\n  + Hallo\n");
        let empty = Difference::values("subject", &json!(""), &json!("Hallo"));
        assert_eq!(empty.render(), "subject\n  - \"\"\n  + Hallo\n");
        let ends = Difference::values("text", &json!("a"), &json!("a\n"));
        assert_eq!(ends.render(), "text\n    a\n  (the line ends at the end differ)\n");
    }

    #[test]
    fn what_is_said_stands_one_after_the_other() {
        let said = Difference::said("outcome", "done", "reject: no");
        assert_eq!(said.render(), "outcome\n  - done\n  + reject: no\n");
        let long = Difference::said("text-contains", "x", &"line\n".repeat(100));
        assert!(long.render().ends_with("  (41 lines more; `--json` has all)\n"), "{}", long.render());
    }

    #[test]
    fn tables_are_shown_key_by_key() {
        let found = Difference::values("data", &json!({"a": 1, "b": 2}), &json!({"a": 1, "b": 3}));
        assert_eq!(found.render(), "data\n    {\n      \"a\": 1,\n  -   \"b\": 2\n  +   \"b\": 3\n    }\n");
    }
}

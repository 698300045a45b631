//! What all cases came to, as JUnit writes it: what CI systems read. A file is a suite; one that could not be run has an error.

use std::fmt::Write as _;

use super::{CaseRun, FileRun, Report, seconds};

/// The whole document.
#[must_use]
pub fn document(report: &Report) -> String {
    let (passed, failed, wrong) = report.counts();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let tests = passed + failed + wrong;
    let took = seconds(report.took);
    // Writing to a String has no error.
    let _ = writeln!(
        xml,
        "<testsuites name=\"weir test\" tests=\"{tests}\" failures=\"{failed}\" errors=\"{wrong}\" time=\"{took}\">"
    );
    for file in &report.files {
        suite(&mut xml, file);
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn suite(xml: &mut String, file: &FileRun) {
    let name = escape(&file.file.display().to_string());
    let failed = file.cases.iter().filter(|case| !case.passed()).count();
    let wrong = usize::from(file.error.is_some());
    let tests = file.cases.len() + wrong;
    let took: f64 = file.cases.iter().map(|case| seconds(case.took)).sum();
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failed}\" errors=\"{wrong}\" time=\"{took:.3}\">"
    );
    for case in &file.cases {
        one(xml, &name, case);
    }
    if let Some(error) = &file.error {
        let first = escape(error.lines().next().unwrap_or_default());
        let _ = writeln!(xml, "    <testcase name=\"the file can be run\" classname=\"{name}\" file=\"{name}\" time=\"0\">");
        let _ = writeln!(xml, "      <error message=\"{first}\">{}</error>\n    </testcase>", escape(error));
    }
    xml.push_str("  </testsuite>\n");
}

fn one(xml: &mut String, file: &str, case: &CaseRun) {
    let (name, took, line) = (escape(&case.name), seconds(case.took), case.line);
    let _ = write!(xml, "    <testcase name=\"{name}\" classname=\"{file}\" file=\"{file}\" line=\"{line}\" time=\"{took}\"");
    if case.passed() {
        xml.push_str("/>\n");
        return;
    }
    let keys: Vec<&str> = case.differences.iter().map(|difference| difference.at.as_str()).collect();
    let text: Vec<String> = case.differences.iter().map(super::Difference::render).collect();
    let (message, text) = (escape(&keys.join(", ")), escape(&text.join("\n")));
    let _ = write!(xml, ">\n      <failure message=\"{message}\">{text}</failure>\n");
    if !case.log.is_empty() {
        let _ = writeln!(xml, "      <system-out>{}</system-out>", escape(&case.log));
    }
    xml.push_str("    </testcase>\n");
}

/// A text within XML: what XML 1.0 has no way to write is replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(char),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            char if char.is_control() => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::Difference;
    use super::*;

    #[test]
    fn a_document_of_all_three_kinds() {
        let case = |name: &str, differences| CaseRun {
            name: name.to_owned(),
            line: 3,
            differences,
            runs: 1,
            fuel: 7,
            log: "said \u{1b}[1m\n".to_owned(),
            took: Duration::from_millis(12),
        };
        let failed = case("a \"<b>\"", vec![Difference::said("outcome", "done", "reject: a & b")]);
        let file = FileRun {
            file: PathBuf::from("x.test.toml"),
            handler: "x".to_owned(),
            cases: vec![case("good", Vec::new()), failed],
            error: Some("no component\nat all".to_owned()),
            problems: Vec::new(),
        };
        let report = Report { files: vec![file], took: Duration::from_millis(30) };
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="weir test" tests="3" failures="1" errors="1" time="0.03">
  <testsuite name="x.test.toml" tests="3" failures="1" errors="1" time="0.024">
    <testcase name="good" classname="x.test.toml" file="x.test.toml" line="3" time="0.012"/>
    <testcase name="a &quot;&lt;b&gt;&quot;" classname="x.test.toml" file="x.test.toml" line="3" time="0.012">
      <failure message="outcome">outcome
  - done
  + reject: a &amp; b
</failure>
      <system-out>said �[1m
</system-out>
    </testcase>
    <testcase name="the file can be run" classname="x.test.toml" file="x.test.toml" time="0">
      <error message="no component">no component
at all</error>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(document(&report), expected);
    }
}

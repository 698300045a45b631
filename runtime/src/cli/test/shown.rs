//! What cases came to, for people.

use crate::cases::{CaseRun, FileRun, Report};
use crate::cli::output::{CliError, Output, Tone};

/// Most lines of a log that are shown with a case that failed: the last ones, which say why.
const LOG_LINES: usize = 20;

/// A file: a line for each case, and what is otherwise than expected below it.
pub(super) fn file(run: &FileRun, output: &mut Output) -> Result<(), CliError> {
    if run.cases.is_empty() {
        return Ok(());
    }
    output.line(&format!("{} ({})", run.file.display(), run.handler))?;
    run.cases.iter().try_for_each(|case| one(run, case, output))
}

fn one(run: &FileRun, case: &CaseRun, output: &mut Output) -> Result<(), CliError> {
    if case.passed() {
        return output.toned(Some(Tone::Good), &format!("  ok    {}", case.name));
    }
    output.toned(Some(Tone::Bad), &format!("  FAIL  {}  ({}:{})", case.name, run.file.display(), case.line))?;
    for difference in &case.differences {
        for line in difference.render().lines() {
            let tone = match line.trim_start().chars().next() {
                Some('-') if line.starts_with("  ") => Some(Tone::Bad),
                Some('+') if line.starts_with("  ") => Some(Tone::Good),
                _ => None,
            };
            output.toned(tone, &format!("        {line}"))?;
        }
    }
    let lines: Vec<&str> = case.log.lines().collect();
    if !lines.is_empty() {
        output.line("        log")?;
    }
    lines.iter().skip(lines.len().saturating_sub(LOG_LINES)).try_for_each(|line| output.line(&format!("          {line}")))
}

/// The last line.
pub(super) fn summary(report: &Report, output: &mut Output) -> Result<(), CliError> {
    let (passed, failed, wrong) = report.counts();
    let mut text = format!("{passed} passed, {failed} failed");
    if wrong > 0 {
        text.push_str(&format!(", {wrong} {} that can't be run", if wrong == 1 { "file" } else { "files" }));
    }
    let tone = if failed + wrong > 0 { Tone::Bad } else { Tone::Good };
    output.toned(Some(tone), &format!("{text} ({:.2} s)", report.took.as_secs_f64()))
}

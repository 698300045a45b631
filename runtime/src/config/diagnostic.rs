//! What is wrong with a configuration: file, line, key, what was found, what is expected. It shows; the sections judge.
//!
//! Nothing here holds more of a text than was masked by `redact.rs`, so no way of showing a problem can tell a secret.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::tree::{Place, Source};

/// Most problems kept: more than anybody reads, and a bound on what a hostile file makes us hold.
const PROBLEMS_MAX: usize = 100;

/// Most bytes of a line that are kept to be shown.
const LINE_SHOWN_MAX: usize = 400;

/// Most characters of a value that are told as "found".
const FOUND_SHOWN_MAX: usize = 80;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as it was named, or `--set`.
    pub file: String,
    /// From 1; none: the file as a whole.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// The dotted path: `handler.email-notifier.limits.fuel`; empty: no key in particular.
    pub key: String,
    /// What is wrong, in a fragment.
    pub message: String,
    /// What stands there, as written, secrets masked; `nothing` where something is missing.
    pub found: String,
    /// What has to stand there.
    pub expected: String,
    /// What else helps: the nearest known key, what is known.
    pub notes: Vec<String>,
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

/// The line to show, and what of it to underline.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    line: String,
    underlined: std::ops::Range<usize>,
}

/// What a reader says of a place; the rest of a [`Problem`] follows from the place.
#[derive(Debug, Default)]
pub(super) struct Finding {
    pub(super) key: String,
    pub(super) message: String,
    pub(super) expected: String,
    /// Instead of the text at the place.
    pub(super) found: Option<&'static str>,
    pub(super) notes: Vec<String>,
}

impl Problem {
    pub(super) fn new(place: &Place, source: &Source, finding: Finding) -> Self {
        let text = source.shown.as_str();
        let start = floor(text, place.span.start);
        let line_start = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let line_end = text.get(start..).and_then(|after| after.find('\n')).map_or(text.len(), |at| start + at);
        let line = text.get(line_start..line_end).unwrap_or_default().trim_end_matches('\r');
        // What spans lines is underlined on its first one.
        let end = floor(text, place.span.end.max(start)).min(line_start + line.len()).max(start);
        let stands = text.get(start..end).unwrap_or_default();
        let underlined = start - line_start..end - line_start;
        let shown = &line.get(..floor(line, LINE_SHOWN_MAX)).unwrap_or_default();
        let excerpt = (underlined.end <= shown.len()).then(|| Excerpt { line: (*shown).to_owned(), underlined });
        Self {
            file: source.name.clone(),
            line: Some(text.get(..start).unwrap_or_default().matches('\n').count() + 1),
            column: Some(text.get(line_start..start).unwrap_or_default().chars().count() + 1),
            key: finding.key,
            message: finding.message,
            found: finding.found.map_or_else(|| clip(stands), str::to_owned),
            expected: finding.expected,
            notes: finding.notes,
            excerpt,
        }
    }

    /// A problem with a file as a whole.
    pub(super) fn of_file(file: &str, message: String, found: &str, expected: &str) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            key: String::new(),
            message,
            found: found.to_owned(),
            expected: expected.to_owned(),
            notes: Vec::new(),
            excerpt: None,
        }
    }

    /// As people read it, with the line it is about.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut group = Group::with_title(Level::ERROR.primary_title(self.message.as_str()));
        let label = format!("expected {}", self.expected);
        if let (Some(excerpt), Some(line)) = (&self.excerpt, self.line) {
            let underline = AnnotationKind::Primary.span(excerpt.underlined.clone()).label(label);
            let snippet = Snippet::source(excerpt.line.as_str()).line_start(line).path(self.file.as_str()).annotation(underline);
            group = group.element(snippet);
        } else {
            let mut origin = Origin::path(self.file.as_str());
            if let (Some(line), Some(column)) = (self.line, self.column) {
                origin = origin.line(line).char_column(column);
            }
            group = group.element(origin).element(Level::NOTE.message(label));
        }
        for note in &self.notes {
            group = group.element(Level::HELP.message(note.as_str()));
        }
        renderer.render(&[group])
    }
}

/// The greatest place at or before `at` where a character begins.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(FOUND_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Everything that is wrong, in the order of the file; never empty when it is an error.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    list: Vec<Problem>,
    left_out: usize,
    /// Instead of "the configuration".
    what: Option<&'static str>,
}

impl Problems {
    pub(super) fn push(&mut self, problem: Problem) {
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    /// The same, told as of something else than the configuration.
    pub(super) fn of(self, what: &'static str) -> Self {
        Self { what: Some(what), ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The file's in its order, then those of `--set`.
    pub(super) fn sorted(mut self) -> Self {
        self.list.sort_by_key(|problem| (problem.file == super::overrides::NAME, problem.line, problem.column));
        self
    }

    /// One after another.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// As people read them: each with its line, then how many there are.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for problem in &self.list {
            text.push_str(&problem.render(colour));
            text.push_str("\n\n");
        }
        let count = self.list.len() + self.left_out;
        let one_or_more = if count == 1 { "error" } else { "errors" };
        let what = self.what.unwrap_or("the configuration");
        text.push_str(&format!("{count} {one_or_more} in {what}"));
        if self.left_out > 0 {
            text.push_str(&format!(" ({PROBLEMS_MAX} shown)"));
        }
        text
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { list: vec![problem], ..Self::default() }
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

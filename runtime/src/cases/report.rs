//! What all cases came to, as JSON.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::{Difference, seconds};
use crate::config::Problem;

/// What a case came to.
#[derive(Debug, Clone)]
pub struct CaseRun {
    /// Its name.
    pub name: String,
    /// Where it stands in its file.
    pub line: usize,
    /// What was otherwise than expected; nothing: it passed.
    pub differences: Vec<Difference>,
    /// How many events came to the handler.
    pub runs: usize,
    /// The fuel of the run that used most.
    pub fuel: u64,
    /// What the handler wrote.
    pub log: String,
    /// Wall clock.
    pub took: Duration,
}

/// What a file came to.
#[derive(Debug, Clone, Serialize)]
pub struct FileRun {
    /// As it was named or found.
    pub file: PathBuf,
    /// The handler's name.
    pub handler: String,
    /// Those that were run, in the order of the file.
    pub cases: Vec<CaseRun>,
    /// Why the rest, or all of it, could not be run; may have several lines.
    pub error: Option<String>,
    /// What is wrong with the file itself, one by one.
    pub problems: Vec<Problem>,
}

/// What all files came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order of their paths.
    pub files: Vec<FileRun>,
    /// Wall clock.
    pub took: Duration,
}

impl CaseRun {
    /// Whether it came to what it expects.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

impl Report {
    /// How many cases passed, how many failed, and how many files could not be run.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let cases = || self.files.iter().flat_map(|file| &file.cases);
        let passed = cases().filter(|case| case.passed()).count();
        (passed, cases().count() - passed, self.files.iter().filter(|file| file.error.is_some()).count())
    }
}

impl Serialize for CaseRun {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = serializer.serialize_struct("CaseRun", 8)?;
        json.serialize_field("name", &self.name)?;
        json.serialize_field("line", &self.line)?;
        json.serialize_field("passed", &self.passed())?;
        json.serialize_field("differences", &self.differences)?;
        json.serialize_field("runs", &self.runs)?;
        json.serialize_field("fuel", &self.fuel)?;
        json.serialize_field("seconds", &seconds(self.took))?;
        json.serialize_field("log", &self.log)?;
        json.end()
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (passed, failed, wrong) = self.counts();
        let mut json = serializer.serialize_struct("Report", 5)?;
        json.serialize_field("passed", &passed)?;
        json.serialize_field("failed", &failed)?;
        json.serialize_field("wrong", &wrong)?;
        json.serialize_field("seconds", &seconds(self.took))?;
        json.serialize_field("files", &self.files)?;
        json.end()
    }
}

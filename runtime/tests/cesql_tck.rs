//! Cases of CloudEvents SQL in the form of its conformance kit: our own always, the kit where `CESQL_TCK` names its folder.
//!
//! A case has an `expression`, an `event` or `eventOverrides`, and the expected `result`, `error` or both. Events are read from the
//! JSON format, as Weir receives them; results are compared with their types.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use weir_runtime::event::{Event, json};
use weir_runtime::filter::{Expression, Value};

#[derive(Deserialize)]
struct Suite {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    expression: String,
    result: Option<Scalar>,
    error: Option<String>,
    event: Option<BTreeMap<String, Scalar>>,
    event_overrides: Option<BTreeMap<String, Scalar>>,
}

/// A value as YAML types it: `1` is a number, `'1'` a text.
#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Boolean(bool),
    Integer(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("true, false, a whole number or a text")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Boolean(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
                i64::try_from(value).map(Scalar::Integer).map_err(E::custom)
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Case {
    fn event(&self) -> Result<Event, String> {
        let required = [("specversion", "1.0"), ("id", "an-id"), ("source", "/a/source"), ("type", "a.type")];
        let smallest = || required.map(|(name, value)| (name.to_owned(), Scalar::Text(value.to_owned()))).into();
        let mut attributes: BTreeMap<String, Scalar> = self.event.clone().unwrap_or_else(smallest);
        attributes.extend(self.event_overrides.clone().unwrap_or_default());
        let fields = attributes.into_iter().map(|(name, value)| {
            let value = match value {
                Scalar::Boolean(value) => value.into(),
                Scalar::Integer(value) => value.into(),
                Scalar::Text(value) => value.into(),
            };
            (name, value)
        });
        let text = serde_json::Value::Object(fields.collect()).to_string();
        json::read(text.as_bytes()).map_err(|error| format!("its event: {error}"))
    }

    /// Runs it; what is not as expected is an error.
    fn run(&self) -> Result<(), String> {
        if self.result.is_none() && self.error.is_none() {
            return Err("it expects nothing".to_owned());
        }
        let event = self.event()?;
        let expression = match (Expression::parse(&self.expression), self.error.as_deref()) {
            (Err(_), Some("parse")) => return Ok(()),
            (Err(error), _) => return Err(format!("it does not parse: {error}")),
            (Ok(_), Some("parse")) => return Err("it parses".to_owned()),
            (Ok(expression), _) => expression,
        };
        let evaluation = expression.evaluate(&event);
        let error = evaluation.error.as_ref().map(|error| error.kind.as_str());
        if error != self.error.as_deref() {
            return Err(format!("error {error:?}, expected {:?}", self.error));
        }
        let value = match evaluation.value {
            Value::Boolean(value) => Scalar::Boolean(value),
            Value::Integer(value) => Scalar::Integer(value.into()),
            Value::Text(value) => Scalar::Text(value.into_owned()),
        };
        match &self.result {
            Some(expected) if *expected != value => Err(format!("{value:?}, expected {expected:?}")),
            _ => Ok(()),
        }
    }
}

/// Runs every `*.yaml` of a folder; answers how many cases of how many files there were, and what failed.
fn run_folder(folder: &Path) -> (usize, usize, Vec<String>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("folder `{}`: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "`{}` has no *.yaml", folder.display());
    let (mut cases, mut failed) = (0, Vec::new());
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{name}: {error}"));
        let suite: Suite = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name} can't be read as cases: {error}"));
        assert!(!suite.tests.is_empty(), "{name} has no cases");
        cases += suite.tests.len();
        let told = |case: &Case| case.run().err().map(|why| format!("{name}: {}: `{}`: {why}", case.name, case.expression));
        failed.extend(suite.tests.iter().filter_map(told));
    }
    (cases, files.len(), failed)
}

/// To the process's own stderr: what `println!` writes is shown of tests that fail only, and a skip has to be seen.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[test]
fn cesql_tck() {
    let Some(folder) = std::env::var_os("CESQL_TCK").filter(|folder| !folder.is_empty()) else {
        say("cesql_tck: skipped, 0 cases: CESQL_TCK not set (the folder of the conformance kit's *.yaml)");
        return;
    };
    let (cases, files, failed) = run_folder(Path::new(&folder));
    say(&format!("cesql_tck: {cases} cases of {files} files, {} failed", failed.len()));
    assert!(failed.is_empty(), "{} of {cases} cases failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn own_cases() {
    let (cases, files, failed) = run_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cesql"));
    assert!(failed.is_empty(), "{} of {cases} cases of {files} files failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn a_wrong_case_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.yaml");
    fs::write(
        &file,
        "name: wrong\ntests:\n- {name: value, expression: 1 + 1, result: 3}\n- {name: type, expression: 1 + 1, result: '2'}\n\
         - {name: error, expression: 1 / 0, result: 0}\n- {name: kind, expression: 1 / 0, error: cast}\n\
         - {name: no error, expression: TRUE, error: parse}\n- {name: syntax, expression: (1, result: 1}\n- {name: empty, expression: a}\n\
         - {name: right, expression: 1 + 1, result: 2}\n",
    )
    .unwrap();
    let (cases, files, failed) = run_folder(folder.path());
    assert_eq!((cases, files, failed.len()), (8, 1, 7), "{failed:#?}");
    for text in ["name: none\ntests: []", "tests: [{name: a, result: 1}]", "- a", "name: ["] {
        fs::write(&file, text).unwrap();
        assert!(std::panic::catch_unwind(|| run_folder(folder.path())).is_err(), "{text}");
    }
    fs::remove_file(&file).unwrap();
    assert!(std::panic::catch_unwind(|| run_folder(folder.path())).is_err(), "no file");
}

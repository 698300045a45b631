//! Whole configurations: what is taken, what is refused and how it reads. Single values are tested beside their parsers.

mod accepted;
mod batches;
mod files;
mod layers;
mod overridden;
mod properties;
mod reference;
mod refused;
mod rendered;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Config, Problems, Surroundings, load};

/// A configuration that is right; tests add to it.
const BASE: &str = r#"
[queue.events]
url = "disk:./data/events"
[handler.notify]
component = "notify.wasm"
queue = "events"
"#;

fn variable(name: &str) -> Option<OsString> {
    match name {
        "PASSWORD" => Some("hunter2 secret".into()),
        "TOKEN" => Some("s3cr3t".into()),
        "HOST" => Some("relay.example".into()),
        _ => None,
    }
}

/// Reads a text as `/etc/weir/weir.toml`, started in `/home/ann` on two cores.
fn read_with(toml: &str, overrides: &[&str]) -> Result<Config, Problems> {
    let surroundings = Surroundings { env: &variable, folder: PathBuf::from("/home/ann"), cores: 2 };
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    load::read_text(toml, Path::new("../../etc/weir/weir.toml"), &overrides, &surroundings)
}

#[track_caller]
fn good(toml: &str) -> Config {
    read_with(toml, &[]).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What is wrong, each as `line:column found → message`.
fn problems(toml: &str, overrides: &[&str]) -> Vec<String> {
    let Err(problems) = read_with(toml, overrides) else { return Vec::new() };
    let told = problems.iter().map(|problem| {
        assert!(!problem.expected.is_empty() && !problem.message.is_empty(), "{problem:?}");
        let place = format!("{}:{}", problem.line.unwrap_or(0), problem.column.unwrap_or(0));
        format!("{place} {} → {}", problem.found, problem.message)
    });
    told.collect()
}

/// Asserts all that is wrong with a text, and nothing else.
#[track_caller]
fn check(toml: &str, expected: &[&str]) {
    assert_eq!(problems(toml, &[]), expected, "\n{toml}");
}

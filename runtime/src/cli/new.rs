//! `weir new`: a handler project that builds, with a test. It carries the SDK's sources, so it works anywhere.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::{CliError, Global, Output, note};
use crate::config;

/// Every file of a project: path, contents; `{{name}}` stands for its name.
const FILES: &[(&str, &str)] = &include!("../../../guest-sdk/template/files.rs");

/// Makes a handler project.
#[derive(Debug, clap::Args)]
pub struct New {
    /// Its name, and its folder's: a-z, 0-9 and dashes.
    name: PathBuf,
    /// The language.
    #[arg(long, default_value = "rust")]
    lang: Lang,
}

/// Languages with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Lang {
    Rust,
}

/// Runs the command.
///
/// # Errors
/// When the name can't be one, the folder is already there, or it can't be written.
pub fn run(new: &New, global: &Global) -> Result<(), CliError> {
    let Lang::Rust = new.lang;
    let folder = &new.name;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !config::is_name(name) {
        let text = format!("`{name}` is no name for a handler: expected a-z, 0-9 and dashes, a letter first, at most 40");
        return Err(CliError::Wrong(text));
    }
    if folder.exists() {
        return Err(CliError::Wrong(format!("`{}` is already there (choose another name)", folder.display())));
    }
    for (path, contents) in FILES {
        let path = folder.join(path);
        write(&path, &contents.replace("{{name}}", name))
            .map_err(|error| CliError::Failed(format!("`{}` can't be written: {error}", path.display())))?;
    }
    let shown = folder.display();
    note(&format!("next: cd {shown} && cargo test && weir build && weir test && weir serve"));
    Output::stdout(|output| match global.json {
        true => output.json(&json!({ "project": shown.to_string() })),
        false => output.line(&shown.to_string()),
    })
}

fn write(path: &Path, contents: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(path)?.write_all(contents.as_bytes())
}

//! `weir inspect`: what a wasm file is, wants and offers, and how Weir would run it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::output::{CliError, Global, Output};
use crate::config::{Ceilings, Export};
use crate::sandbox::Sandbox;
use crate::sandbox::imports::{Class, versions_known};
use crate::sandbox::inspect::{Import, Inspection};

/// Shows what a wasm file exports and imports, and which grants it needs.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// The component or module.
    file: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When the file is no wasm: exit code 2.
pub fn run(inspect: &Inspect, global: &Global) -> Result<(), CliError> {
    let sandbox = Sandbox::new(&Ceilings::default(), 1, None);
    let file = &inspect.file;
    let (_, found) = sandbox.read(file).map_err(|error| CliError::Wrong(format!("`{}` {error}", file.display())))?;
    Output::stdout(|output| match global.json {
        true => output.json(&as_json(&found)),
        false => output.line(human(file, &found).trim_end()),
    })
}

fn grant(import: &Import) -> Option<&'static str> {
    match import.class {
        Class::Capability { grant, .. } => Some(grant),
        Class::Ambient | Class::Unknown => None,
    }
}

fn as_json(found: &Inspection) -> Value {
    let imports = found.imports.iter();
    let imports = imports.map(|import| json!({ "name": import.name, "class": import.class.name(), "grant": grant(import) }));
    json!({
        "kind": found.kind.name(),
        "run": found.run().ok().map(Export::name),
        "digest": found.digest,
        "size": found.size,
        "exports": found.exports,
        "imports": imports.collect::<Vec<_>>(),
    })
}

fn human(file: &Path, found: &Inspection) -> String {
    let made = if found.adapted { " (made of a core module)" } else { "" };
    let mut text = format!("{}: {}{made}, {} bytes\ndigest {}\n", file.display(), found.kind.name(), found.size, found.digest);
    match found.run() {
        Ok(run) => text.push_str(&format!("runs as {}\n", run.name())),
        Err(why) => text.push_str(&format!("does not run: {why}\n")),
    }
    text.push_str("exports\n");
    for export in &found.exports {
        text.push_str(&format!("  {export}\n"));
    }
    text.push_str("imports\n");
    for import in &found.imports {
        let needs = match import.class {
            Class::Ambient => String::new(),
            Class::Capability { line, here: true, .. } => format!("  needs the grant: {line}"),
            Class::Capability { here: false, .. } => "  not in this version yet".to_owned(),
            Class::Unknown => versions_known(&import.name).map_or_else(String::new, |known| format!("  Weir has {known}")),
        };
        text.push_str(&format!("  {:<10} {}{needs}\n", import.class.name(), import.name));
    }
    text
}

//! `weir build`: compiles a handler project to `DIR/<name>.wasm`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::output::{CliError, Global, Output};

/// The target that makes components.
const TARGET: &str = "wasm32-wasip2";

/// Compiles a handler project to a component.
#[derive(Debug, clap::Args)]
pub struct Build {
    /// The project's folder.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When it is no project, a tool is missing (exit code 2, with the command that gets it), or it does not compile (exit code 1).
pub fn run(build: &Build, global: &Global) -> Result<(), CliError> {
    let component = component(&build.dir)?;
    let component = component.display().to_string();
    Output::stdout(|output| match global.json {
        true => output.json(&serde_json::json!({ "component": component })),
        false => output.line(&component),
    })
}

/// Compiles the project in `dir` and answers where its component is.
fn component(dir: &Path) -> Result<PathBuf, CliError> {
    let manifest = dir.join("Cargo.toml");
    if !manifest.is_file() {
        let text = format!("`{}` is no handler project: no Cargo.toml in it (make one with `weir new NAME`)", dir.display());
        return Err(CliError::Wrong(text));
    }
    let project = metadata(dir)?;
    // cargo's own output goes to stderr; its last lines say what does not compile.
    let built = cargo(dir).args(["build", "--release", "--target", TARGET]).stdout(Stdio::null()).status();
    let built = built.map_err(no_cargo)?;
    if !built.success() {
        let hint = if has_target() { String::new() } else { format!(" (the target is missing: rustup target add {TARGET})") };
        return Err(CliError::Failed(format!("`{}` does not compile{hint}", dir.display())));
    }
    let made = project.target.join(TARGET).join("release").join(format!("{}.wasm", project.library));
    let component = dir.join(format!("{}.wasm", project.name));
    // Beside and renamed: a server that watches the folder never sees half a component.
    let beside = dir.join(format!(".{}.wasm.{}", project.name, std::process::id()));
    let copied = std::fs::copy(&made, &beside).and_then(|_| std::fs::rename(&beside, &component));
    match copied {
        Ok(()) => Ok(component),
        Err(error) => {
            let _ = std::fs::remove_file(&beside);
            let text = format!("`{}` can't be copied to `{}`: {error}", made.display(), component.display());
            Err(CliError::Failed(text))
        }
    }
}

struct Project {
    name: String,
    library: String,
    target: PathBuf,
}

/// What cargo says of the project.
fn metadata(dir: &Path) -> Result<Project, CliError> {
    let output =
        cargo(dir).args(["metadata", "--no-deps", "--format-version=1"]).stderr(Stdio::inherit()).output().map_err(no_cargo)?;
    let wrong = |what: &str| CliError::Wrong(format!("`{}` is no handler project: {what}", dir.display()));
    if !output.status.success() {
        return Err(wrong("cargo can't read its Cargo.toml"));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|error| wrong(&error.to_string()))?;
    let manifest = dir.join("Cargo.toml").canonicalize().map_err(|error| wrong(&error.to_string()))?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let package = packages
        .find(|package| package["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest))
        .ok_or_else(|| wrong("no package in it"))?;
    let targets = package["targets"].as_array().into_iter().flatten();
    let mut libraries =
        targets.filter(|target| target["crate_types"].as_array().is_some_and(|types| types.contains(&Value::from("cdylib"))));
    let library = libraries
        .next()
        .and_then(|target| target["name"].as_str())
        .ok_or_else(|| wrong("no library with crate-type = [\"cdylib\"] in it"))?;
    let name = package["name"].as_str().ok_or_else(|| wrong("its package has no name"))?;
    let target = metadata["target_directory"].as_str().ok_or_else(|| wrong("cargo names no target folder"))?;
    Ok(Project { name: name.to_owned(), library: library.replace('-', "_"), target: PathBuf::from(target) })
}

fn cargo(dir: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(dir).stdin(Stdio::null());
    cargo
}

fn no_cargo(error: std::io::Error) -> CliError {
    CliError::Wrong(format!("cargo can't be run: {error} (install Rust with rustup)"))
}

/// Whether rustup has the target; true when there is no rustup to ask.
fn has_target() -> bool {
    let listed = Command::new("rustup").args(["target", "list", "--installed"]).output();
    listed.is_ok_and(|listed| !listed.status.success() || String::from_utf8_lossy(&listed.stdout).contains(TARGET))
        || Command::new("rustup").arg("--version").output().is_err()
}

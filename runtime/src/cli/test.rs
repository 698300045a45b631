//! `weir test`: runs the cases of `*.test.toml` files. `config/cases.rs` reads them, `cases.rs` runs them; this finds out which handler
//! they are about, and says what they came to.

mod shown;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use super::direct;
use super::output::{CliError, EXIT_FAILED, EXIT_WRONG, Global, Output};
use super::try_event::defaults;
use crate::cases::{self, FileRun, Report, Tested, find, junit};
use crate::config::{self, Case, CaseFile, Config, HandlerConfig, Subject};
use crate::trial::{Effects, Place};

/// Runs the cases of *.test.toml files in the sandbox, with mail and published events captured.
///
/// A case gives events to a handler of the nearest weir.toml, or to a component, and says what has to come of them; README.md of Weir has
/// the format. Nothing leaves, and each case has a clock of its own.
/// Exit code 0 when every case passed, 1 when one failed, 2 when a file, a handler or a component can't be used.
#[derive(Debug, clap::Args)]
pub struct Test {
    /// Files, and folders in which every *.test.toml file is run.
    #[arg(value_name = "PATH", default_value = ".")]
    pub paths: Vec<PathBuf>,
    /// Only cases with this text in their name.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Also writes what they came to into this file, as JUnit does, for CI.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When there is nothing to run, or the result can't be written. Cases that fail and files that are wrong are the result.
pub fn run(args: &Test, global: &Global) -> Result<ExitCode, CliError> {
    Output::stdout(|output| run_to(args, global, output))
}

pub(super) fn run_to(args: &Test, global: &Global, output: &mut Output) -> Result<ExitCode, CliError> {
    let files = find::find(&args.paths).map_err(CliError::Wrong)?;
    let below = || args.paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ");
    if files.is_empty() {
        return Err(CliError::Wrong(format!("no file below {} ends with `{}`", below(), find::SUFFIX)));
    }
    let begun = Instant::now();
    let runtime = direct::runtime()?;
    let mut report = runtime.block_on(async {
        let (mut report, mut places) = (Report::default(), Places { global, known: HashMap::new() });
        for file in &files {
            let Some((mut run, error)) = places.file(file, args.filter.as_deref()).await else { continue };
            if !global.json {
                shown::file(&run, output)?;
                error.iter().for_each(CliError::print);
            }
            run.error = error.map(|error| match error {
                CliError::Wrong(text) | CliError::Failed(text) => text,
                other => other.to_string(),
            });
            report.files.push(run);
        }
        Ok::<Report, CliError>(report)
    })?;
    report.took = begun.elapsed();
    if let (true, Some(filter)) = (report.files.is_empty(), &args.filter) {
        return Err(CliError::Wrong(format!("no case below {} has `{filter}` in its name", below())));
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::document(&report))
            .map_err(|error| CliError::Failed(format!("`{}` can't be written: {error}", path.display())))?;
    }
    if global.json {
        output.json(&report)?;
    } else {
        shown::summary(&report, output)?;
    }
    Ok(match report.counts() {
        (_, 0, 0) => ExitCode::SUCCESS,
        (_, _, 0) => ExitCode::from(EXIT_FAILED),
        _ => ExitCode::from(EXIT_WRONG),
    })
}

/// Sandboxes, one for each weir.toml that files mean; none: for components without one.
struct Places<'a> {
    global: &'a Global,
    known: HashMap<Option<PathBuf>, (Config, Place)>,
}

impl Places<'_> {
    /// Runs what a file has, and says why it could not run all of it; none where nothing of it is wanted.
    async fn file(&mut self, path: &Path, filter: Option<&str>) -> Option<(FileRun, Option<CliError>)> {
        let file = path.to_owned();
        let mut run = FileRun { file, handler: String::new(), cases: Vec::new(), error: None, problems: Vec::new() };
        let CaseFile { subject, cases } = match config::load_cases(path) {
            Ok(read) => read,
            Err(problems) => {
                run.problems = problems.iter().cloned().collect();
                return Some((run, Some(CliError::Config(problems))));
            }
        };
        let wanted: Vec<&Case> = cases.iter().filter(|case| filter.is_none_or(|text| case.name.contains(text))).collect();
        if wanted.is_empty() {
            return None;
        }
        let (Subject::Handler { name, .. } | Subject::Component { name, .. }) = &subject;
        run.handler.clone_from(name);
        let (place, config, hops) = match self.subject(path, &subject) {
            Ok(found) => found,
            Err(CliError::Wrong(why)) => return Some((run, Some(CliError::Wrong(format!("{}: {why}", path.display()))))),
            Err(error) => return Some((run, Some(error))),
        };
        let tested = Tested { place, name, config: &config, hops };
        for case in wanted {
            match tested.run(case).await {
                Ok(done) => run.cases.push(done),
                Err(problem) => {
                    let why = format!("{}:{}: case `{}`: handler `{name}`: {problem}", path.display(), case.line, case.name);
                    return Some((run, Some(CliError::Wrong(why))));
                }
            }
        }
        Some((run, None))
    }

    /// The handler that cases are about, where it runs, and how many handlers an event may descend through.
    fn subject(&mut self, path: &Path, subject: &Subject) -> Result<(&Place, HandlerConfig, u32), CliError> {
        let file = match subject {
            Subject::Component { .. } => None,
            Subject::Handler { .. } => Some(self.config_of(path)?),
        };
        if !self.known.contains_key(&file) {
            let loaded = match &file {
                Some(file) => config::load(file, &self.global.set).map_err(CliError::Config)?,
                None => defaults(&[])?,
            };
            let place = Place::new(&loaded, Effects::Apart);
            self.known.insert(file.clone(), (loaded, place));
        }
        let Some((loaded, place)) = self.known.get(&file) else {
            return Err(CliError::Failed("no sandbox, which is a bug of Weir".to_owned()));
        };
        let handler = match subject {
            Subject::Component { config, .. } => (**config).clone(),
            Subject::Handler { name, config } => {
                let Some(handler) = loaded.handlers.get(name) else {
                    let known: Vec<String> = loaded.handlers.keys().map(|name| format!("`{name}`")).collect();
                    let (file, known) = (loaded.file.display(), known.join(", "));
                    let text = format!("handler `{name}` is not defined in `{file}` (known: {known})");
                    return Err(CliError::Wrong(text));
                };
                let mut handler = handler.clone();
                cases::replace(&mut handler.config, config);
                handler
            }
        };
        Ok((place, handler, loaded.ceilings.hops))
    }

    /// The weir.toml that a file means: the one that was named, or the nearest.
    fn config_of(&self, path: &Path) -> Result<PathBuf, CliError> {
        let named = &self.global.config;
        if named != Path::new(Global::CONFIG) {
            return Ok(named.clone());
        }
        let none = "there is no weir.toml in its folder or above (name one with `-c FILE`, or a `component`)";
        config::nearest_config(path, Global::CONFIG).ok_or_else(|| CliError::Wrong(none.to_owned()))
    }
}

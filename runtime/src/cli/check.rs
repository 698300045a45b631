//! `weir check`: everything that can be known before a socket is opened, told at once.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::output::{CliError, EXIT_WRONG, Global, Output, note};
use crate::config::{Config, Export, HandlerConfig};
use crate::handler::{LoadProblem, version};
use crate::keyvalue::Places;
use crate::mail::Mailer;
use crate::sandbox::inspect::Inspection;
use crate::sandbox::{self, LoadError, Permits, Sandbox, Setup};

/// Checks weir.toml and everything that it names.
#[derive(Debug, clap::Args)]
pub struct Check {}

/// Runs the command.
///
/// # Errors
/// Only when the result can't be printed: what is wrong with the configuration is the result.
pub fn run(_: &Check, global: &Global) -> Result<ExitCode, CliError> {
    let config = match global.load() {
        Ok(config) => config,
        Err(CliError::Config(problems)) if global.json => {
            let errors: Vec<Value> = problems.iter().map(|problem| json!(problem)).collect();
            return finish(global, &errors, &[]);
        }
        Err(error) => return Err(error),
    };
    if config.server.instances as usize <= config.handlers.len() {
        let (found, least) = (config.server.instances, config.handlers.len() + 1);
        let text =
            format!("[server] instances is {found}, too few for {} handlers (expected at least {least})", config.handlers.len());
        return match global.json {
            true => finish(global, &[instances_error(&config, found, least)], &[]),
            false => Err(CliError::Wrong(text)),
        };
    }
    // Nothing is written: compiled code is taken from and kept in a data folder that is already there.
    let data = config.server.data.is_dir().then_some(config.server.data.as_path());
    let sandbox = Sandbox::new(&config.ceilings, 2, data);
    let (mut errors, mut handlers) = (Vec::new(), Vec::new());
    for (name, handler) in &config.handlers {
        match component(&sandbox, config.server.max_event, name, handler) {
            Ok((inspection, run)) => handlers.push(shown(name, handler, (&inspection, run))),
            Err(problem) => {
                errors.push(error(&config, name, &problem));
                if !global.json {
                    CliError::Wrong(format!("handler `{name}`: {problem}")).print();
                }
            }
        }
    }
    // Beside the result, whose fields are of errors and handlers alone.
    config.warnings().iter().for_each(|warning| note(&format!("warning: {warning}")));
    finish(global, &errors, &handlers)
}

fn component(
    sandbox: &Sandbox,
    max_event: u64,
    name: &str,
    handler: &HandlerConfig,
) -> Result<(Inspection, Export), LoadProblem> {
    let problem = |why: LoadError| LoadProblem { file: handler.component.clone(), why };
    let (bytes, inspection) = sandbox.read(&handler.component).map_err(problem)?;
    Sandbox::admit(&inspection, name, &handler.grants).map_err(problem)?;
    let export = version::export(&inspection, handler).map_err(problem)?;
    let program = sandbox.program_as(export, &bytes, &inspection).map_err(problem)?;
    if let Some(grant) = &handler.grants.email {
        Mailer::check(name, grant).map_err(|error| problem(LoadError::Unusable(error.to_string())))?;
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| problem(LoadError::Unusable(format!("no thread to try it on: {error}"))))?;
    let buckets = Places::empty(runtime.handle().clone()).granted(name, &handler.grants.keyvalue);
    let buckets = buckets.map_err(|error| problem(LoadError::Unusable(error.to_string())))?;
    // Every effect is refused while a version is probed, so no mailer is needed, nor a grant to publish.
    let setup = Arc::new(Setup {
        handler: Arc::from(name),
        limits: handler.limits,
        config: version::texts(&handler.config)?,
        mailer: None,
        publish: None,
        http: None,
        redactor: version::redactor(&handler.config),
        buckets,
        max_event,
        permits: Permits::new(sandbox),
    });
    runtime.block_on(sandbox::probe(&program, &setup)).map_err(problem)?;
    Ok((inspection, export))
}

fn error(config: &Config, name: &str, problem: &LoadProblem) -> Value {
    json!({
        "file": config.file.display().to_string(),
        "line": null,
        "key": format!("handler.{name}.component"),
        "found": problem.file.display().to_string(),
        "expected": problem.why.to_string(),
    })
}

fn instances_error(config: &Config, found: u32, least: usize) -> Value {
    let file = config.file.display().to_string();
    json!({ "file": file, "line": null, "key": "server.instances", "found": found.to_string(), "expected": format!("at least {least}") })
}

fn shown(name: &str, handler: &HandlerConfig, (inspection, run): (&Inspection, Export)) -> Value {
    let imports: Vec<Value> =
        inspection.imports.iter().map(|import| json!({ "name": import.name, "class": import.class.name() })).collect();
    let limits = handler.shown_limits();
    let limits = limits.iter().map(|limit| (limit.name.to_owned(), json!({ "value": limit.value, "from": limit.from.as_str() })));
    let limits: serde_json::Map<String, Value> = limits.collect();
    json!({ "name": name, "run": run.name(), "digest": inspection.digest, "limits": limits, "imports": imports })
}

fn finish(global: &Global, errors: &[Value], handlers: &[Value]) -> Result<ExitCode, CliError> {
    Output::stdout(|output| match (global.json, errors.is_empty()) {
        (true, _) => output.json(&json!({ "errors": errors, "handlers": handlers })),
        (false, true) => output.line(&human(handlers)),
        (false, false) => Ok(()),
    })?;
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_WRONG) })
}

fn human(handlers: &[Value]) -> String {
    let mut text = String::new();
    for handler in handlers {
        let name = handler["name"].as_str().unwrap_or_default();
        let digest = handler["digest"].as_str().unwrap_or_default();
        let run = handler["run"].as_str().unwrap_or_default();
        text.push_str(&format!("handler {name}: {digest}, runs as {run}\n"));
        for (limit, value) in handler["limits"].as_object().into_iter().flatten() {
            let shown = value["value"].as_str().map_or_else(|| value["value"].to_string(), str::to_owned);
            text.push_str(&format!("  {limit:<10} {shown:>12}  {}\n", value["from"].as_str().unwrap_or_default()));
        }
    }
    text.push_str("ok");
    text
}

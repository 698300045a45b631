//! The `weir` command line: one file a command. Results go to stdout, everything else to stderr.

pub mod bench;
pub mod build;
pub mod check;
pub mod client;
pub mod completions;
pub mod dead;
pub mod direct;
pub mod handlers;
pub mod inspect;
pub mod move_events;
pub mod new;
pub mod output;
pub mod publish;
pub mod queues;
pub mod serve;
pub mod test;
pub mod try_event;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use self::output::{CliError, Global};
use crate::clock;

/// What `--version` says. A build that takes the time from a file must not pass for another.
const VERSION: &str =
    if clock::IS_TEST { concat!(env!("CARGO_PKG_VERSION"), " (test-clock)") } else { env!("CARGO_PKG_VERSION") };

/// Takes events off queues and gives each one to a WebAssembly handler in a sandbox.
#[derive(Debug, Parser)]
#[command(name = "weir", version = VERSION, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    /// How logs are written to stderr; RUST_LOG says which.
    #[arg(long, global = true, default_value = "text")]
    log: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Inspect(inspect::Inspect),
    Publish(publish::Publish),
    New(new::New),
    Build(build::Build),
    Test(test::Test),
    Try(try_event::Try),
    Dead(dead::Dead),
    Handlers(handlers::Handlers),
    Queues(queues::Queues),
    Move(move_events::Move),
    Bench(bench::Bench),
    Completions(completions::Completions),
}

/// Parses the command line, runs the command, and prints what went wrong once.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; everything else is exit code 2.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { output::EXIT_WRONG } else { output::EXIT_DONE });
        }
    };
    log(cli.log);
    let done = clock::check().map_err(CliError::Wrong).and_then(|()| run(&cli.command, &cli.global));
    match done {
        Ok(code) => code,
        Err(error) => {
            error.print();
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: &Command, global: &Global) -> Result<ExitCode, CliError> {
    let done = match command {
        Command::Serve(args) => return serve::run(args, global),
        Command::Check(args) => return check::run(args, global),
        Command::Test(args) => return test::run(args, global),
        Command::Try(args) => return try_event::run(args, global),
        Command::Move(args) => return move_events::run(args, global),
        Command::Inspect(args) => inspect::run(args, global),
        Command::Publish(args) => publish::run(args, global),
        Command::New(args) => new::run(args, global),
        Command::Build(args) => build::run(args, global),
        Command::Dead(args) => dead::run(args, global),
        Command::Handlers(args) => handlers::run(args, global),
        Command::Queues(args) => queues::run(args, global),
        Command::Bench(args) => bench::run(args, global),
        Command::Completions(args) => completions::run(args, Cli::command()),
    };
    done.map(|()| ExitCode::from(output::EXIT_DONE))
}

fn log(format: LogFormat) {
    // RabbitMQ's client says again what we say, and prints whole events that came back: those in no case.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,lapin=off"));
    let filter = match "lapin::returned_messages=off".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => logs.with_target(false).with_ansi(output::colour(io::stderr().is_terminal())).init(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}

#[cfg(test)]
mod tests;

//! `weir completions SHELL`: a script for a shell, on stdout.

use super::output::{CliError, Output};

/// Writes the completion script of a shell to stdout.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Writes the completions of `command`, the whole command line.
///
/// # Errors
/// When stdout can't be written.
pub fn run(args: &Completions, mut command: clap::Command) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "weir", &mut script);
    Output::stdout(|output| output.raw(&String::from_utf8_lossy(&script)))
}

//! `weir serve`: the server itself. Two runtimes: handlers on one, everything that must stay punctual on the other.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::{CliError, EXIT_FAILED, EXIT_INTERRUPTED, Global, Output};
use crate::app::{App, StartError, Stop};
use crate::clock;

/// How long threads may take to end once everything is settled: a host call of a guest that was cut off may still hold one.
const THREADS_END: Duration = Duration::from_secs(1);

/// Runs a server until it is told to stop.
#[derive(Debug, clap::Args)]
pub struct Serve {}

/// Runs the command.
///
/// # Errors
/// Why the server can't start; exit code 2 when the configuration or a component is wrong, 1 otherwise.
pub fn run(_: &Serve, global: &Global) -> Result<ExitCode, CliError> {
    let config = global.load()?;
    if clock::IS_TEST {
        tracing::warn!("this is a test build: the time comes from a file");
    }
    let server = runtime("weir", Builder::new_multi_thread().worker_threads(2))?;
    let guests = runtime("weir-guest", &mut Builder::new_multi_thread())?;
    let given_back = server.block_on(async {
        let app = App::start(config, guests.handle()).await.map_err(start_error)?;
        let signals = Signals::new()?;
        Output::stdout(|output| output.line(&app.ready_line()))?;
        Ok::<_, CliError>(app.run(signals.stop()).await)
    })?;
    guests.shutdown_timeout(THREADS_END);
    server.shutdown_timeout(THREADS_END);
    Ok(if given_back == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn runtime(name: &'static str, builder: &mut Builder) -> Result<Runtime, CliError> {
    let count = AtomicUsize::new(0);
    builder
        .enable_all()
        .thread_name_fn(move || format!("{name}-{}", count.fetch_add(1, Ordering::Relaxed)))
        .build()
        .map_err(|error| CliError::Failed(format!("no threads for the server: {error}")))
}

fn start_error(error: StartError) -> CliError {
    match error {
        StartError::Handlers(_) | StartError::TooMany { .. } | StartError::TooFew { .. } | StartError::Deadline { .. } => {
            CliError::Wrong(error.to_string())
        }
        _ => CliError::Failed(error.to_string()),
    }
}

/// SIGTERM and SIGINT, listened to from before the ready line.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(|error| CliError::Failed(format!("signals can't be listened to: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the first signal; from then on, a second one ends the process at once.
    async fn stop(mut self) -> Stop {
        let stop = tokio::select! {
            _ = self.terminate.recv() => Stop::Terminate,
            _ = self.interrupt.recv() => Stop::Interrupt,
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        });
        stop
    }
}

//! A folder with a `weir.toml` of its own, and the commands that are run in it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{Server, binary};
use crate::clock::Clock;

/// A folder with a `weir.toml`, and what servers leave there.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    /// The file that says the time, for a build that takes it from there.
    clock: Option<PathBuf>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; -1 after a signal.
    pub code: i32,
    /// Its results.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl Site {
    /// A folder with this `weir.toml`; the address, a free port, is put before it.
    #[must_use]
    pub fn new(config: &str) -> Self {
        let site = Self { folder: tempfile::tempdir().expect("a temporary folder can be made"), clock: None };
        site.configure(config);
        site
    }

    /// The same for the build with the feature `test-clock`: its servers and commands have the time of this clock.
    #[must_use]
    pub fn with_clock(config: &str, clock: &Clock) -> Self {
        Self { clock: Some(clock.path()), ..Self::new(config) }
    }

    /// Writes another `weir.toml`.
    pub fn configure(&self, config: &str) {
        let text =
            if config.contains("listen") { config.to_owned() } else { format!("server.listen = \"127.0.0.1:0\"\n{config}") };
        self.write("weir.toml", text.as_bytes());
    }

    /// Where a file of the site is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, in place.
    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        let parent = path.parent().expect("a file of the site stands in it");
        std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, content)).expect("the site can be written");
    }

    /// Writes a file beside its place and renames it, as a careful deployment does.
    pub fn replace(&self, name: &str, content: &[u8]) {
        let beside = format!("{name}.new");
        self.write(&beside, content);
        std::fs::rename(self.path(&beside), self.path(name)).expect("the site can be written");
    }

    /// A command in this folder, not yet run.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(if self.clock.is_some() { binary::with_clock() } else { binary::weir() });
        command.envs(self.clock.as_ref().map(|path| ("WEIR_TEST_CLOCK", path)));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("RUST_LOG").env_remove("WEIR_TOKEN").env("NO_COLOR", "1");
        command
    }

    /// Runs a command in this folder to its end.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&mut self.command(args))
    }

    /// Runs a command in this folder that may hang, and that writes less than a pipe holds.
    ///
    /// # Panics
    /// When it has not ended within `bound`.
    #[must_use]
    #[track_caller]
    pub fn run_within(&self, args: &[&str], bound: Duration) -> Ran {
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("weir starts");
        let begun = Instant::now();
        while child.try_wait().expect("a child can be waited for").is_none() {
            if begun.elapsed() > bound {
                let _ = child.kill();
                panic!("{args:?} did not end within {bound:?}: {:?}", child.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ran::new(child.wait_with_output().expect("weir ends"))
    }

    /// Runs a command with this text as its standard input.
    #[must_use]
    pub fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("weir starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = input.to_owned();
        // A command may end before it has read everything; what it says then is the result.
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().expect("weir ends");
        writer.join().expect("the writer ends");
        Ran::new(output)
    }

    /// Starts the server and waits for its ready line.
    #[must_use]
    pub fn start(&self) -> Server {
        match self.try_start() {
            Ok(server) => server,
            Err(ran) => panic!("the server did not start: {ran:?}"),
        }
    }

    /// Starts the server, or says how it ended instead of being ready.
    ///
    /// # Errors
    /// What it said and its exit code.
    pub fn try_start(&self) -> Result<Server, Ran> {
        self.try_start_saying("debug,redb=warn,wasmtime=warn,cranelift=warn,hyper=warn,lettre=warn,notify=warn")
    }

    /// Starts the server with this `RUST_LOG`, or says how it ended instead of being ready.
    ///
    /// # Errors
    /// What it said and its exit code.
    pub fn try_start_saying(&self, levels: &str) -> Result<Server, Ran> {
        let mut command = self.command(&["serve", "--log", "json"]);
        command.env("RUST_LOG", levels);
        Server::start(command)
    }

    /// Starts the server with these arguments after `serve` and nothing else set: its log is what a person sees who types that.
    #[must_use]
    pub fn start_typed(&self, args: &[&str]) -> Server {
        Server::start(self.command(&[&["serve"], args].concat()))
            .unwrap_or_else(|ran| panic!("the server did not start: {ran:?}"))
    }
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        Self::new(command.output().expect("weir runs"))
    }

    fn new(output: std::process::Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("weir speaks UTF-8");
        Self { code: code(output.status), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Its stdout as one JSON value.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON on stdout ({error}): {self:?}"))
    }

    /// Its stdout as JSON values, one a line.
    ///
    /// # Panics
    /// When they are not.
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"));
        self.stdout.lines().map(line).collect()
    }

    /// The same, when it ended with this code.
    ///
    /// # Panics
    /// When it ended with another.
    #[must_use]
    #[track_caller]
    pub fn ending(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// The exit code; -1 after a signal.
pub(super) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

//! A real SMTP server (aiosmtpd) in a process of its own, for one test. What it does with a message is scripted by the recipient's
//! address: `tests/servers/smtp.py` lists them.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that can't have its server fails there and then")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for something that happens soon; long enough for a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// How the server secures its connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerTls {
    /// Not at all.
    #[default]
    None,
    /// STARTTLS, required.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// What a server is like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// How its connections are secured.
    pub tls: ServerTls,
    /// User and password that it asks for.
    pub login: Option<(&'static str, &'static str)>,
    /// Its port; 0: a free one.
    pub port: u16,
}

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct SmtpServer {
    process: Child,
    port: u16,
    options: Options,
    store: TempDir,
    python: PathBuf,
}

/// A message that the server took.
#[derive(Debug, Clone)]
pub struct Received {
    /// As it came, CRLF.
    pub content: Vec<u8>,
    /// Sender of the envelope.
    pub from: String,
    /// Recipients of the envelope.
    pub to: Vec<String>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Who authenticated.
    pub user: Option<String>,
    /// The connection it came over, from 1.
    pub connection: u64,
}

impl SmtpServer {
    /// Starts a server, or says on stderr that `test` is skipped because there is no Python to run it with; with `CI=true` that is a
    /// failure.
    #[must_use]
    pub fn start(test: &str, options: Options) -> Option<Self> {
        static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match PYTHON.get_or_init(python) {
            Ok(python) => {
                let store = tempfile::tempdir().expect("a temporary folder can be made");
                let (process, port) = run(python, store.path(), options);
                Some(Self { process, port, options, store, python: python.clone() })
            }
            Err(why) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "no SMTP server: {why}");
                // Straight to the file descriptor: what a passing test prints is not shown.
                let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no SMTP server ({})", why.trim());
                None
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate (PEM) that signed the server's own.
    #[must_use]
    pub fn root_certificate(&self) -> Vec<u8> {
        std::fs::read(self.store.path().join("root.pem")).expect("a server with TLS writes its root")
    }

    /// What it has taken, in order.
    #[must_use]
    pub fn messages(&self) -> Vec<Received> {
        (1..).map_while(|number| received(self.store.path(), number)).collect()
    }

    /// What it was told, a line each: the connection's number and the command.
    #[must_use]
    pub fn journal(&self) -> String {
        std::fs::read_to_string(self.store.path().join("session.log")).unwrap_or_default()
    }

    /// Lets messages to `slow@…` through.
    pub fn go(&self) {
        std::fs::write(self.store.path().join("go"), "").expect("the store can be written");
    }

    /// Ends it, as if its machine had died. What it took is kept.
    pub fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again, on the same port, after [`Self::kill`].
    pub fn start_again(&mut self) {
        let options = Options { port: self.port, ..self.options };
        (self.process, self.port) = run(&self.python, self.store.path(), options);
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until `true`, at most [`SOON`].
///
/// # Panics
/// When it does not come true.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn python() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/get-smtp.sh");
    let output = Command::new("sh").arg(script).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn run(python: &Path, store: &Path, options: Options) -> (Child, u16) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/smtp.py");
    let tls = match options.tls {
        ServerTls::None => "none",
        ServerTls::StartTls => "starttls",
        ServerTls::Implicit => "implicit",
    };
    let mut command = Command::new(python);
    command.arg(script).arg("--store").arg(store).args(["--tls", tls, "--port", &options.port.to_string()]);
    if let Some((user, password)) = options.login {
        command.args(["--user", user, "--password", password]);
    }
    // Its standard input ends with this process, and then so does the server, whatever becomes of the test.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().expect("the server starts");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("the server says something");
    let port = line.trim().strip_prefix("ready ").and_then(|port| port.parse().ok());
    (process, port.unwrap_or_else(|| panic!("the server said {line:?}, expected `ready PORT`")))
}

fn received(store: &Path, number: usize) -> Option<Received> {
    let about = std::fs::read(store.join(format!("{number}.json"))).ok()?;
    let about: Value = serde_json::from_slice(&about).expect("the server writes JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(Received {
        content: std::fs::read(store.join(format!("{number}.eml"))).expect("the message stands beside its envelope"),
        from: text(&about["from"]),
        to: about["to"].as_array().expect("recipients are a list").iter().map(text).collect(),
        tls: about["tls"].as_bool().unwrap_or_default(),
        user: about["user"].as_str().map(str::to_owned),
        connection: about["connection"].as_u64().unwrap_or_default(),
    })
}

//! The real `weir` in a folder of its own: configured, started, spoken to over HTTP, killed, drained.
//!
//! The counting identity of delivery.md §5 is asserted at every scrape, and at a last one before a server ends that a test did not kill by
//! accident; no test can forget it. What the guests do is told by the server's log, which a test reads as a ledger outside Weir.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that can't have its server fails there and then")]

mod binary;
pub mod log;
pub mod metrics;
mod site;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use self::log::Log;
use self::metrics::Metrics;
use self::site::code;
pub use self::site::{Ran, Site};
use crate::smtp::SOON;

/// A server that runs in a [`Site`].
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// The first line on stdout.
    ready: String,
    log: Log,
    agent: ureq::Agent,
    /// Sent with every GET, and so with the last scrape.
    pub token: Option<String>,
    ended: bool,
}

/// What the server answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
    /// The body, JSON; null when it is not.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

impl Server {
    /// Runs this command, which is `weir serve`, and waits for its ready line.
    fn start(mut command: Command) -> Result<Self, Ran> {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("weir starts");
        let log = Log::read(process.stderr.take().expect("stderr is piped"));
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut ready = String::new();
        stdout.read_line(&mut ready).expect("stdout can be read");
        let Some(url) = ready.strip_prefix("weir ready ").and_then(|rest| rest.split(' ').next()) else {
            let code = code(process.wait().expect("weir ends"));
            return Err(Ran { code, stdout: ready, stderr: log.end() });
        };
        let url = url.to_owned();
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(Some(SOON)).build();
        Ok(Self { process, url, ready, log, agent: config.into(), token: None, ended: false })
    }

    /// The ready line.
    #[must_use]
    pub fn ready_line(&self) -> &str {
        self.ready.trim_end_matches('\n')
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits until it has logged this message so many times, and answers those lines: what it logs reaches the test a little later than
    /// what it answers.
    ///
    /// # Panics
    /// When it does not, or more often.
    #[track_caller]
    pub fn logged(&self, message: &str, count: usize) -> Vec<Value> {
        self.eventually(&format!("`{message}` is logged {count} times"), |server| server.log.with(message).len() >= count);
        let lines = self.log.with(message);
        assert_eq!(lines.len(), count, "`{message}`: {lines:#?}");
        lines
    }

    /// Publishes one event.
    pub fn publish(&self, queue: &str, event: &Value) -> Answer {
        self.post(&format!("/events/{queue}"), "application/cloudevents+json", &event.to_string())
    }

    /// Publishes several in one request.
    pub fn publish_batch(&self, queue: &str, events: &[Value]) -> Answer {
        let body = Value::from(events).to_string();
        self.post(&format!("/events/{queue}"), "application/cloudevents-batch+json", &body)
    }

    /// Publishes one event of a type with this id and data, which must be accepted.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn accept(&self, queue: &str, id: &str, data: &Value) {
        let answer = self.publish(queue, &event(id, data));
        assert_eq!(answer.status, 202, "{answer:?}");
    }

    /// A POST.
    pub fn post(&self, path: &str, content_type: &str, body: &str) -> Answer {
        self.try_post(path, content_type, body).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// A POST to a server that may be gone.
    ///
    /// # Errors
    /// When no answer came.
    pub fn try_post(&self, path: &str, content_type: &str, body: &str) -> Result<Answer, ureq::Error> {
        post(&self.agent, &self.url, path, content_type, body)
    }

    /// A GET.
    ///
    /// # Panics
    /// When no answer came.
    pub fn get(&self, path: &str) -> Answer {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.call();
        Answer::of(answer.unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.log.tail())))
    }

    /// What `/metrics` says. The counting identity holds at every scrape, whatever happens meanwhile.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        let metrics = Metrics::parse(&answer.text);
        metrics.assert_identity();
        metrics
    }

    /// The one handler of that name in `/api/handlers`.
    ///
    /// # Panics
    /// When it is not there.
    pub fn handler(&self, name: &str) -> Value {
        let handlers = self.get("/api/handlers").body;
        let mut handlers = handlers.as_array().into_iter().flatten();
        handlers.find(|handler| handler["name"] == name).cloned().unwrap_or_else(|| panic!("no handler `{name}`"))
    }

    /// All dead letters.
    pub fn dead(&self) -> Vec<Value> {
        self.get("/api/dead").body.as_array().cloned().expect("dead letters are a list")
    }

    /// Waits until `holds`, at most [`SOON`]; shows the end of the log when it does not come.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn eventually(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}\n{}", self.log.tail());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until this many events have ended, and nothing runs any more.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn ended(&self, count: u64) {
        self.eventually(&format!("{count} events have ended"), |server| {
            let metrics = server.metrics();
            metrics.sum("weir_events_ended_total", &[]) == count && metrics.sum("weir_events_in_flight", &[]) == 0
        });
    }

    /// Sends a signal and does not wait.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).expect("a process has an id");
        // A process that has ended by itself is found out when it is waited for.
        let _ = kill_process(pid, signal);
    }

    /// Asserts the identity, and ends it as a power failure would. Answers its log.
    #[must_use]
    pub fn kill9(mut self) -> Log {
        let _ = self.metrics();
        self.signal(Signal::KILL);
        self.finish().1
    }

    /// Ends it at once, whatever it is doing, also when it no longer answers.
    #[must_use]
    pub fn kill9_unasked(mut self) -> Log {
        self.signal(Signal::KILL);
        self.finish().1
    }

    /// Asserts the identity, asks it to stop, and asserts that it ends with 0. Answers its log.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn stop(self) -> Log {
        self.stop_with(Signal::TERM, 0)
    }

    /// Asserts the identity, sends a signal, and asserts how it ends. Answers its log.
    ///
    /// # Panics
    /// When it ends otherwise.
    #[track_caller]
    pub fn stop_with(self, signal: Signal, expected: i32) -> Log {
        let _ = self.metrics();
        self.signal(signal);
        self.ends_with(expected)
    }

    /// Waits for the end that was asked for, and asserts how it is.
    ///
    /// # Panics
    /// When it does not end, or otherwise.
    #[track_caller]
    pub fn ends_with(mut self, expected: i32) -> Log {
        let (code, log) = self.finish();
        assert_eq!(code, expected, "exit code; the log ends with\n{}", log.tail());
        log
    }

    fn finish(&mut self) -> (i32, Log) {
        self.ended = true;
        let begun = Instant::now();
        let status = loop {
            match self.process.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None if begun.elapsed() > SOON => {
                    self.signal(Signal::KILL);
                    let _ = self.process.wait();
                    panic!("the server did not end within {SOON:?}\n{}", self.log.tail());
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let log = self.log.clone();
        let _ = log.end();
        (code(status), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if std::thread::panicking() {
            let mut text = String::new();
            let _ = writeln!(text, "the server's log ends with\n{}", self.log.tail());
            let _ = std::io::stderr().write_all(text.as_bytes());
            self.signal(Signal::KILL);
            let _ = self.process.wait();
            return;
        }
        let _ = self.metrics();
        self.signal(Signal::TERM);
        let (code, log) = self.finish();
        assert_eq!(code, 0, "exit code; the log ends with\n{}", log.tail());
    }
}

impl Answer {
    fn of(mut response: ureq::http::Response<ureq::Body>) -> Self {
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.body_mut().read_to_string().unwrap_or_default();
        Self { status: response.status().as_u16(), retry_after, body: serde_json::from_str(&text).unwrap_or_default(), text }
    }

    /// The field `error`.
    #[must_use]
    pub fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }
}

/// A POST by any agent: for publishers on threads of their own.
///
/// # Errors
/// When no answer came.
pub fn post(agent: &ureq::Agent, url: &str, path: &str, content_type: &str, body: &str) -> Result<Answer, ureq::Error> {
    agent.post(format!("{url}{path}")).header("content-type", content_type).send(body).map(Answer::of)
}

/// A CloudEvent of type `test` with this id and data.
#[must_use]
pub fn event(id: &str, data: &Value) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/test", "type": "test", "data": data })
}

/// The bytes of a file.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The same component with another digest: one more custom section, which nothing reads.
#[must_use]
pub fn another_version(component: &[u8], mark: &str) -> Vec<u8> {
    let mut payload = vec![u8::try_from("version".len()).expect("short")];
    payload.extend_from_slice(b"version");
    payload.extend_from_slice(mark.as_bytes());
    let mut other = component.to_vec();
    other.extend_from_slice(&[0, u8::try_from(payload.len()).expect("a short mark: its length is one byte of LEB128")]);
    other.extend_from_slice(&payload);
    other
}

//! What a server writes to stderr with `--log json`, a line an object, as it comes.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Lines shown of the end of a log when a test fails.
const TAIL: usize = 40;

/// A log that may still grow. A copy is the same log.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    // Written by the thread that reads the server's stderr, read by the test.
    lines: Mutex<Lines>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<String>,
    ended: bool,
}

impl Log {
    /// Reads to the end in a thread of its own, so that the server never waits for the test.
    #[must_use]
    pub fn read(stderr: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.lines().text.push(line);
            }
            writer.lines().ended = true;
            writer.0.ended.notify_all();
        });
        log
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the server's stderr, and answers all of it.
    #[must_use]
    pub fn end(&self) -> String {
        let lines = self.0.ended.wait_while(self.lines(), |lines| !lines.ended).unwrap_or_else(PoisonError::into_inner);
        lines.text.join("\n")
    }

    /// How many lines it has so far.
    #[must_use]
    pub fn length(&self) -> usize {
        self.lines().text.len()
    }

    /// The lines after so many.
    #[must_use]
    pub fn since(&self, lines: usize) -> Vec<String> {
        self.lines().text.get(lines..).unwrap_or_default().to_vec()
    }

    /// Whether one of the lines after so many has all of these texts, as they stand in the JSON. Cheap enough to be asked all the time.
    #[must_use]
    pub fn has_since(&self, lines: usize, texts: &[&str]) -> bool {
        self.lines().text.iter().skip(lines).any(|line| texts.iter().all(|text| line.contains(text)))
    }

    /// Its last lines.
    #[must_use]
    pub fn tail(&self) -> String {
        let lines = self.lines();
        lines.text.get(lines.text.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n")
    }

    /// The lines that have this message, as objects.
    #[must_use]
    pub fn with(&self, message: &str) -> Vec<Value> {
        // A search in the text first: a log of ten thousand events is read often.
        let candidates: Vec<String> = self.lines().text.iter().filter(|line| line.contains(message)).cloned().collect();
        let parsed = candidates.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|line| line["message"].as_str().is_some_and(|text| text.contains(message))).collect()
    }

    /// Whether some line contains this text.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        self.lines().text.iter().any(|line| line.contains(text))
    }

    /// The events about which a guest said this text, in order, one entry each time.
    #[must_use]
    pub fn events(&self, said: &str) -> Vec<String> {
        let own = |line: &Value| line["target"] == "weir::guest";
        self.with(said).iter().filter(|line| own(line)).filter_map(|line| line["event"].as_str().map(str::to_owned)).collect()
    }
}

//! What a guest writes: stdout, stderr and `wasi:logging`, in one bounded text per event.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Most bytes of one write: the size that WASI streams usually offer.
const WRITE_MAX: usize = 64 * 1024;

/// Bytes at the end of stdout and of stderr that are kept apart, for what the guest says of its end; the whole is in the log.
const TAIL_KEPT: usize = 16 * 1024;

/// The log of one event, shared by the streams that write it and the run that reads it.
#[derive(Debug, Clone)]
pub(crate) struct GuestLog(Arc<Mutex<Text>>);

#[derive(Debug, Default)]
struct Text {
    all: Vec<u8>,
    stdout: Tail,
    stderr: Tail,
    bound: u64,
    over: bool,
}

/// By which way a guest writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Stdout,
    Stderr,
    /// `wasi:logging`.
    Logging,
}

/// The end of what was written.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    /// Whether its first line is only the end of one.
    cut: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // Only now and then: every write would move all of it.
        if self.bytes.len() > 2 * TAIL_KEPT {
            self.bytes.drain(..self.bytes.len() - TAIL_KEPT);
            self.cut = true;
        }
    }

    /// The last line that is not empty; none where its beginning was not kept.
    fn last_line(&self) -> Option<String> {
        let text = self.bytes.trim_ascii_end();
        let begin = text.iter().rposition(|byte| *byte == b'\n');
        let line = match begin {
            Some(at) => text.get(at + 1..)?,
            None if self.cut => return None,
            None => text,
        };
        let line = String::from_utf8_lossy(line).trim().to_owned();
        (!line.is_empty()).then_some(line)
    }
}

/// A write over the limit `output`: it traps, so that a handler that ignores errors is not taken for done.
#[derive(Debug, thiserror::Error)]
#[error("wrote more than its limit `output`")]
pub(crate) struct OverOutput;

impl GuestLog {
    pub(crate) fn new(bound: u64) -> Self {
        Self(Arc::new(Mutex::new(Text { bound, ..Text::default() })))
    }

    // Poisoning can't happen: nothing under the lock panics; if it did, the text is still text.
    fn text(&self) -> MutexGuard<'_, Text> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends bytes; what passes the bound is not kept.
    pub(crate) fn write(&self, bytes: &[u8], way: Way) -> Result<(), OverOutput> {
        let mut text = self.text();
        if (text.all.len() + bytes.len()) as u64 > text.bound {
            text.over = true;
            return Err(OverOutput);
        }
        text.all.extend_from_slice(bytes);
        match way {
            Way::Stdout => text.stdout.push(bytes),
            Way::Stderr => text.stderr.push(bytes),
            Way::Logging => {}
        }
        Ok(())
    }

    /// Appends a line of the host's own; these are few and short, and not charged to the guest.
    pub(crate) fn note(&self, line: &str) {
        let mut text = self.text();
        text.all.extend_from_slice(line.as_bytes());
        text.all.push(b'\n');
        text.bound = text.bound.saturating_add(line.len() as u64 + 1);
    }

    /// Whether a write passed the bound.
    pub(crate) fn is_over(&self) -> bool {
        self.text().over
    }

    /// All of it, what is not UTF-8 replaced.
    pub(crate) fn take(&self) -> String {
        match String::from_utf8(std::mem::take(&mut self.text().all)) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// What the guest says of its own end: from `panicked at` on, or the last line of stderr (sandbox.md §6).
    pub(crate) fn last_words(&self) -> Option<String> {
        last_words(&String::from_utf8_lossy(&self.text().stderr.bytes))
    }

    /// The last line of stdout that is not empty.
    pub(crate) fn last_line(&self) -> Option<String> {
        self.text().stdout.last_line()
    }
}

/// Rust's panic message without its hint about RUST_BACKTRACE; else the last line that is not empty.
fn last_words(stderr: &str) -> Option<String> {
    if let Some(at) = stderr.rfind("panicked at") {
        let message: Vec<&str> = stderr[at..].lines().take_while(|line| !line.starts_with("note: ")).collect();
        return Some(message.join("\n").trim_end().to_owned());
    }
    stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// A line of the log with its level: `wasi:logging` writes it in front; what was printed is `info`.
#[must_use]
pub fn level(line: &str) -> (Level, &str) {
    let known = [
        ("trace", Level::TRACE),
        ("debug", Level::DEBUG),
        ("info", Level::INFO),
        ("warn", Level::WARN),
        ("error", Level::ERROR),
        ("critical", Level::ERROR),
    ];
    let named = line.split_once(": ").and_then(|(name, rest)| {
        let (_, level) = known.iter().find(|(known, _)| *known == name)?;
        Some((*level, rest))
    });
    named.unwrap_or((Level::INFO, line))
}

/// Stdout or stderr of a guest.
#[derive(Clone)]
pub(crate) struct Stream {
    log: GuestLog,
    way: Way,
}

impl Stream {
    pub(crate) fn new(log: &GuestLog, way: Way) -> Self {
        Self { log: log.clone(), way }
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.write(&bytes, self.way).map_err(|over| StreamError::Trap(over.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(self.log.write(bytes, self.way).map(|()| bytes.len()).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_panic() {
        let stderr =
            "hello\n\nthread '<unnamed>' (1) panicked at src/lib.rs:7:5:\nno answers\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(last_words(stderr).unwrap(), "panicked at src/lib.rs:7:5:\nno answers");
        assert_eq!(last_words("a\nb\n\n").unwrap(), "b");
        assert_eq!(last_words(" \n"), None);
    }

    #[test]
    fn lines_have_levels() {
        assert_eq!(level("warn: disk: nearly full"), (Level::WARN, "disk: nearly full"));
        assert_eq!(level("critical: fire"), (Level::ERROR, "fire"));
        assert_eq!(level("total: 3"), (Level::INFO, "total: 3"));
    }

    #[test]
    fn what_passes_the_bound_is_refused() {
        let log = GuestLog::new(4);
        log.write(b"abc", Way::Stdout).unwrap();
        log.write(b"de", Way::Stderr).unwrap_err();
        log.note("said by the host");
        assert!(log.is_over());
        assert_eq!(log.take(), "abcsaid by the host\n");
    }

    #[test]
    fn the_last_line_is_of_stdout_alone_and_whole() {
        let log = GuestLog::new(1 << 20);
        log.write(b"first\nlast", Way::Stdout).unwrap();
        log.write(b" words\n\n", Way::Stdout).unwrap();
        log.write(b"on stderr\n", Way::Stderr).unwrap();
        log.write(b"info: logged\n", Way::Logging).unwrap();
        assert_eq!(log.last_line().unwrap(), "last words");
        assert_eq!(log.last_words().unwrap(), "on stderr");
        for _ in 0..100 {
            log.write(&[b'x'; 1000], Way::Stdout).unwrap();
        }
        assert_eq!(log.last_line(), None, "a line without its beginning says nothing");
        log.write(b"\nend", Way::Stdout).unwrap();
        assert_eq!(log.last_line().unwrap(), "end");
    }
}

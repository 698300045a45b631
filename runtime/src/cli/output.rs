//! How every command speaks: results to stdout, everything else to stderr, errors with documented exit codes.
//!
//! The only place that writes to the two. What came from events is shown without control characters, so that an event can't drive
//! the terminal of whoever looks at it.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use serde::Serialize;

use crate::config::{self, Config, Problems};

/// Done.
pub const EXIT_DONE: u8 = 0;
/// It was tried and failed.
pub const EXIT_FAILED: u8 = 1;
/// The command line, the configuration or a component is wrong.
pub const EXIT_WRONG: u8 = 2;
/// Interrupted; of `serve`: by a second signal.
pub const EXIT_INTERRUPTED: u8 = 130;

/// What works with every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// The configuration file.
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = Self::CONFIG, global = true)]
    pub config: PathBuf,
    /// Prints JSON: one value, or one a line for lists that stream.
    #[arg(long, global = true)]
    pub json: bool,
    /// Overrides a key of the configuration: `--set handler.x.limits.fuel=1000`.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
}

impl Global {
    /// The configuration file where none is named.
    pub const CONFIG: &'static str = "weir.toml";

    /// Reads the configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(&self) -> Result<Config, CliError> {
        config::load(&self.config, &self.set).map_err(CliError::Config)
    }
}

/// Why a command did not do what was asked. Printed once, by `main`.
#[derive(Debug)]
pub enum CliError {
    /// The command line is wrong: exit code 2.
    Wrong(String),
    /// The configuration is wrong: exit code 2.
    Config(Problems),
    /// It was tried and failed: exit code 1.
    Failed(String),
    /// Nobody reads what is printed (`weir dead list | head`): no error to anyone.
    Unread,
}

impl CliError {
    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Wrong(_) | Self::Config(_) => EXIT_WRONG,
            Self::Failed(_) => EXIT_FAILED,
            Self::Unread => EXIT_DONE,
        }
    }

    /// As people read it; empty where nothing is to be said.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        match self {
            Self::Config(problems) => problems.render(colour),
            Self::Unread => String::new(),
            Self::Wrong(text) | Self::Failed(text) => {
                let error = if colour { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
                format!("{error}: {}", printable(text, Lines::Kept))
            }
        }
    }

    /// Prints it to stderr.
    pub fn print(&self) {
        let text = self.render(colour(io::stderr().is_terminal()));
        if !text.is_empty() {
            say(&text);
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for CliError {}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Failed(format!("output can't be written: {error}")),
        }
    }
}

/// Says something that is no result, on stderr.
pub fn note(text: &str) {
    say(&format!("weir: {}", printable(text, Lines::Kept)));
}

fn say(text: &str) {
    // There is nobody left to tell when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Colour on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(super) fn colour(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Where results go.
pub struct Output<'w> {
    to: &'w mut dyn Write,
    colour: bool,
}

/// A cell of a table.
pub struct Cell {
    text: String,
    right: bool,
    tone: Option<Tone>,
}

/// What a cell's colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Look at it.
    Notable,
    /// Act on it.
    Bad,
}

impl Cell {
    /// Text, to the left, on one line.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self { text: printable(text, Lines::Joined).into_owned(), right: false, tone: None }
    }

    /// A number, to the right; none is a dash.
    #[must_use]
    pub fn number(number: Option<impl fmt::Display>) -> Self {
        Self { text: number.map_or_else(|| "-".to_owned(), |number| number.to_string()), right: true, tone: None }
    }

    /// With a colour where there is one.
    #[must_use]
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone: Some(tone), ..self }
    }
}

impl<'w> Output<'w> {
    /// Writes to `to`, in colour if it is a terminal that wants it.
    pub fn new(to: &'w mut dyn Write, is_terminal: bool) -> Self {
        Self { to, colour: colour(is_terminal) }
    }

    /// Runs a command with stdout as its output.
    ///
    /// # Errors
    /// The command's own, or when stdout can't be written.
    pub fn stdout<T>(run: impl FnOnce(&mut Output) -> Result<T, CliError>) -> Result<T, CliError> {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let mut buffer = io::BufWriter::new(stdout.lock());
        let done = run(&mut Output::new(&mut buffer, is_terminal));
        // What a command found before it failed is a result all the same.
        let flushed = buffer.flush();
        let done = done?;
        flushed?;
        Ok(done)
    }

    /// Writes a text as it is.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn raw(&mut self, text: &str) -> Result<(), CliError> {
        Ok(self.to.write_all(text.as_bytes())?)
    }

    /// Writes one line.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        Ok(writeln!(self.to, "{}", printable(text, Lines::Kept))?)
    }

    /// Writes one line, in a colour where there is one.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn toned(&mut self, tone: Option<Tone>, text: &str) -> Result<(), CliError> {
        let (on, off) = self.paint(false, tone);
        Ok(writeln!(self.to, "{on}{}{off}", printable(text, Lines::Kept))?)
    }

    /// Writes one JSON value on a line. JSON has no raw control characters, so nothing is replaced.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CliError> {
        serde_json::to_writer(&mut *self.to, value).map_err(io::Error::from)?;
        Ok(self.to.write_all(b"\n")?)
    }

    /// Hands on what was written so far.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.to.flush()?)
    }

    /// Writes rows under their names, in columns; one line that says so when there are none.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn table<const N: usize>(&mut self, names: [&str; N], rows: &[[Cell; N]], none: &str) -> Result<(), CliError> {
        if rows.is_empty() {
            return self.line(none);
        }
        let names = names.map(Cell::text);
        let widest = |at: usize| {
            let cells = std::iter::once(&names).chain(rows).filter_map(|row| row.get(at));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or_default()
        };
        let widths: [usize; N] = std::array::from_fn(widest);
        let first = rows.first();
        for (is_head, row) in std::iter::once((true, &names)).chain(rows.iter().map(|row| (false, row))) {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
                // The name of a column stands where its cells do.
                let right = first.and_then(|first| first.get(at)).is_some_and(|cell| cell.right);
                let room = " ".repeat(width.saturating_sub(cell.text.chars().count()));
                let (before, after) = if right { (room.as_str(), "") } else { ("", room.as_str()) };
                let (on, off) = self.paint(is_head, cell.tone);
                line.extend([if at == 0 { "" } else { "  " }, before, on, &cell.text, off, after]);
            }
            writeln!(self.to, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn paint(&self, is_head: bool, tone: Option<Tone>) -> (&'static str, &'static str) {
        let on = match tone {
            _ if !self.colour => return ("", ""),
            _ if is_head => "\u{1b}[1m",
            Some(Tone::Good) => "\u{1b}[32m",
            Some(Tone::Notable) => "\u{1b}[33m",
            Some(Tone::Bad) => "\u{1b}[31m",
            None => return ("", ""),
        };
        (on, "\u{1b}[0m")
    }
}

/// What becomes of line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// They stay, and so do tabs.
    Kept,
    /// They become spaces.
    Joined,
}

/// A text that can't drive a terminal: control characters, and those that turn the direction of a text, are replaced.
#[must_use]
pub fn printable(text: &str, lines: Lines) -> Cow<'_, str> {
    let drives = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(drives) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c {
        '\n' | '\t' if lines == Lines::Kept => c,
        '\n' | '\t' | '\r' => ' ',
        c if drives(c) => '\u{fffd}',
        c => c,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(colour: bool, write: impl FnOnce(&mut Output)) -> String {
        let mut text = Vec::new();
        write(&mut Output { to: &mut text, colour });
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn tables_are_aligned_and_coloured_only_on_a_terminal() {
        let rows =
            || [[Cell::text("events"), Cell::number(Some(7))], [Cell::text("é").tone(Tone::Bad), Cell::number(None::<u64>)]];
        let plain = written(false, |output| output.table(["QUEUE", "DEPTH"], &rows(), "none").unwrap());
        assert_eq!(plain, "QUEUE   DEPTH\nevents      7\né           -\n");
        let coloured = written(true, |output| output.table(["QUEUE", "DEPTH"], &rows(), "none").unwrap());
        assert!(coloured.contains("\u{1b}[31mé\u{1b}[0m     "), "{coloured:?}");
        assert_eq!(written(false, |output| output.table::<1>(["QUEUE"], &[], "no queues").unwrap()), "no queues\n");
    }

    #[test]
    fn events_cannot_drive_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{7}\u{202e}c", Lines::Kept), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
        assert_eq!(printable("a\r\n\tb", Lines::Joined), "a   b");
        assert_eq!(printable("a\n\tb", Lines::Kept), "a\n\tb");
        let hostile = written(false, |output| {
            output.line("x\u{1b}]0;title\u{7}").unwrap();
            output.json(&serde_json::json!({"a": "\u{1b}"})).unwrap();
        });
        assert!(!hostile.contains('\u{1b}') && hostile.ends_with("{\"a\":\"\\u001b\"}\n"), "{hostile:?}");
    }

    #[test]
    fn errors_have_their_exit_codes() {
        let gone = CliError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        for (error, code) in [
            (CliError::Wrong("x".to_owned()), 2),
            (CliError::Config(Problems::default()), 2),
            (CliError::Failed("x".to_owned()), 1),
            (gone, 0),
        ] {
            assert_eq!(error.exit_code(), code, "{error:?}");
        }
        assert_eq!(CliError::Failed("no \u{1b} answer".to_owned()).render(false), "error: no \u{fffd} answer");
    }
}

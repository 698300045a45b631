//! From a file to a [`Config`]: text, tree, overrides, sections, in this order. The only place here that opens weir.toml.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::diagnostic::{Finding, Problem, Problems};
use super::reader::Reader;
use super::section::Section;
use super::tree::{Place, Source, Table, tree};
use super::{Ceilings, Config, handlers, limits, overrides, queues, server};

/// Most bytes of a configuration file: thousands of handlers; it is held in memory several times over while it is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a configuration depends on beside its text, so that no test has to touch the process.
pub struct Surroundings<'e> {
    /// The environment.
    pub env: &'e dyn Fn(&str) -> Option<OsString>,
    /// The current folder, absolute: where relative paths of `--set` begin.
    pub folder: PathBuf,
    /// How many cores there are: the default of `concurrency`.
    pub cores: usize,
}

/// Reads a configuration file, with the process's own environment, folder and cores.
///
/// # Errors
/// All that is wrong with it.
pub fn load(file: &Path, overrides: &[String]) -> Result<Config, Problems> {
    load_in(file, overrides, &process()?)
}

/// The process's own surroundings.
pub(super) fn process() -> Result<Surroundings<'static>, Problems> {
    let folder = std::env::current_dir().map_err(|error| {
        let message = format!("the current folder is not known: {error}");
        Problem::of_file(".", message, "no folder", "to be started in a folder that exists")
    })?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Surroundings { env: &|name| std::env::var_os(name), folder, cores })
}

/// Reads a configuration file in the given surroundings.
///
/// # Errors
/// All that is wrong with it.
pub fn load_in(file: &Path, overrides: &[String], surroundings: &Surroundings<'_>) -> Result<Config, Problems> {
    let text = read_file(file, surroundings, "a weir.toml in this folder, or another one named with `-c FILE`")?;
    read_text(&text, file, overrides, surroundings)
}

/// The text of a file under bounds; `expected` is what to name where there is none.
pub(super) fn read_file(file: &Path, surroundings: &Surroundings<'_>, expected: &str) -> Result<String, Problems> {
    let shown = file.display().to_string();
    let path = surroundings.folder.join(file);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        let (message, expected) = match error.kind() {
            std::io::ErrorKind::NotFound => (format!("`{shown}` does not exist"), expected),
            _ => (format!("`{shown}` cannot be read: {error}"), "a file that this user may read"),
        };
        return Err(Problem::of_file(&shown, message, "no readable file", expected).into());
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("`{shown}` is too large to be a configuration");
        return Err(Problem::of_file(&shown, message, "over 1MiB", "at most 1MiB").into());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let line = error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
            let message = format!("`{shown}` is not UTF-8 in line {line}");
            Err(Problem::of_file(&shown, message, "other bytes", "a text file in UTF-8").into())
        }
    }
}

/// Reads the text of a configuration file.
///
/// # Errors
/// All that is wrong with it.
pub fn read_text(text: &str, file: &Path, overrides: &[String], surroundings: &Surroundings<'_>) -> Result<Config, Problems> {
    read_known(text, file, overrides, surroundings).0
}

/// Also tells every key that was asked for, names of queues and handlers as `*`.
pub(super) fn read_known(
    text: &str,
    file: &Path,
    overrides: &[String],
    surroundings: &Surroundings<'_>,
) -> (Result<Config, Problems>, BTreeSet<String>) {
    let path = surroundings.folder.join(file);
    let (mut reader, table) = read_source(text, file, surroundings);
    let Some(mut table) = table else {
        return (Err(reader.problems.sorted()), reader.known);
    };
    for text in overrides {
        let source = Source::new(overrides::NAME.to_owned(), text, surroundings.folder.clone());
        if let Err(problem) = overrides::apply(&mut table, text, (reader.sources.len(), &source)) {
            reader.problems.push(*problem);
        }
        reader.sources.push(source);
    }
    let config = Section::root(&mut reader, table, |root| config(root, path));
    let result = if reader.problems.is_empty() { Ok(config) } else { Err(reader.problems.sorted()) };
    (result, reader.known)
}

/// The tree of a text, and a reader that has noted what is wrong with its syntax.
pub(super) fn read_source<'e>(text: &str, file: &Path, surroundings: &'e Surroundings<'e>) -> (Reader<'e>, Option<Table>) {
    let path = surroundings.folder.join(file);
    let base = path.parent().unwrap_or(&path).to_owned();
    let mut reader = Reader {
        sources: vec![Source::new(file.display().to_string(), text, base)],
        surroundings,
        problems: Problems::default(),
        known: BTreeSet::new(),
    };
    let table = parse(&mut reader, text);
    (reader, table)
}

/// The tree of the file; none where it is no TOML: then nothing else is judged, for a slip of syntax hides keys.
fn parse(reader: &mut Reader<'_>, text: &str) -> Option<Table> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(tree(table.into_inner(), 0));
    }
    let mut line_before = None;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        // One slip makes the parser stumble several times: the first in a line tells.
        let line = text.get(..text.floor_char_boundary(span.start)).map(|before| before.matches('\n').count());
        if line == line_before {
            continue;
        }
        line_before = line;
        let (message, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), "TOML"));
        let finding =
            Finding { message: format!("this is no TOML: {message}"), expected: expected.to_owned(), ..Finding::default() };
        reader.report(&Place { source: 0, span }, finding);
    }
    None
}

fn config(root: &mut Section<'_, '_>, file: PathBuf) -> Config {
    root.later(&["include", "secret"]);
    let server = root.section("server", server::read);
    let queues = queues::read(root);
    let ceilings = Ceilings::default();
    root.section("ceilings", limits::refuse_ceilings);
    let handlers = handlers::read(root, &queues.names, &ceilings);
    queues.refuse_shared_groups(root, &handlers);
    Config { file, server, queues: queues.configs, handlers, ceilings }
}

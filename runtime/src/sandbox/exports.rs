//! What of a program is run: the table of exports (DESIGN.md §5), as pure functions on names.

use super::imports::{is_wasi_02_release, is_weir_01};
use crate::config::Export;

/// An interface that Weir runs.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) export: Export,
    /// Without its version.
    pub(super) interface: &'static str,
    /// A version by which the engine finds all that are served.
    version: &'static str,
    /// What is called.
    pub(super) function: &'static str,
    serves: fn(&str) -> bool,
    /// The versions that are served, for people.
    served: &'static str,
}

/// The first of them that a program exports is run. Commands come last: some compilers put a `wasi:cli/run` that does nothing into
/// every component, and running that would take every event for done.
pub(super) const ROWS: [Row; 3] = [
    Row {
        export: Export::Handler,
        interface: "weir:events/handler",
        version: "0.1.0",
        function: "handle",
        serves: is_weir_01,
        served: "0.1.x",
    },
    Row {
        export: Export::Batch,
        interface: "weir:events/batch-handler",
        version: "0.1.0",
        function: "handle",
        serves: is_weir_01,
        served: "0.1.x",
    },
    Row {
        export: Export::Command,
        interface: "wasi:cli/run",
        version: "0.2.0",
        function: "run",
        serves: is_wasi_02_release,
        served: "0.2.x",
    },
];

impl Row {
    /// The interface with a version.
    pub(super) fn name(&self) -> String {
        format!("{}@{}", self.interface, self.version)
    }

    /// Whether it is among these exports.
    ///
    /// # Errors
    /// When it is, in another version.
    pub(super) fn is_in(&self, exports: &[String]) -> Result<bool, String> {
        let mut found = exports.iter().filter_map(|name| name.strip_prefix(self.interface)?.strip_prefix('@')).peekable();
        if found.peek().is_none() {
            return Ok(false);
        }
        match found.find(|version| !(self.serves)(version)) {
            None => Ok(true),
            Some(version) => Err(format!(
                "exports `{}@{version}`, and Weir runs that interface in version {} only",
                self.interface, self.served
            )),
        }
    }
}

/// Whether a component exports what is run this way.
///
/// # Errors
/// When it does, in another version.
pub(super) fn has(exports: &[String], export: Export) -> Result<bool, String> {
    let rows = ROWS.iter().filter(|row| row.export == export);
    rows.map(|row| row.is_in(exports)).find(|found| found != &Ok(false)).unwrap_or(Ok(false))
}

/// How a component is run where weir.toml does not say; none: not at all.
///
/// # Errors
/// When it exports an interface in another version before one that could be run: what it was made for is not what would run.
pub(super) fn first(exports: &[String]) -> Result<Option<Export>, String> {
    for row in &ROWS {
        if row.is_in(exports)? {
            return Ok(Some(row.export));
        }
    }
    Ok(None)
}

/// The interfaces that are run as this, with their versions, for people.
pub(super) fn expected(export: Export) -> String {
    let names = ROWS.iter().filter(|row| row.export == export).map(|row| format!("`{}`", row.name()));
    names.collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(exports: &[&str]) -> Result<Option<Export>, String> {
        first(&exports.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_row_that_matches() {
        let (handler, batch, command) = ("weir:events/handler@0.1.0", "weir:events/batch-handler@0.1.7", "wasi:cli/run@0.2.6");
        assert_eq!(run(&[]), Ok(None));
        assert_eq!(run(&["acme:orders/run@1.0.0", "wasi:cli/runner@0.2.0"]), Ok(None));
        assert_eq!(run(&[command, batch, handler]), Ok(Some(Export::Handler)));
        assert_eq!(run(&[command, batch]), Ok(Some(Export::Batch)));
        assert_eq!(run(&[command]), Ok(Some(Export::Command)));
    }

    #[test]
    fn another_version_of_a_row_is_not_passed_over() {
        let refused = |exports: &[&str]| run(exports).unwrap_err();
        assert_eq!(
            refused(&["wasi:cli/run@0.2.0", "weir:events/handler@0.2.0"]),
            "exports `weir:events/handler@0.2.0`, and Weir runs that interface in version 0.1.x only"
        );
        assert!(refused(&["wasi:cli/run@0.3.0"]).contains("in version 0.2.x only"));
        assert!(refused(&["wasi:cli/run@0.2.0-rc-2023-12-05"]).contains("in version 0.2.x only"));
        assert_eq!(has(&["wasi:cli/run@0.2.0".to_owned(), "weir:events/handler@0.2.0".to_owned()], Export::Command), Ok(true));
    }
}

//! Lines in the server's log, through `wasi:logging`. They stand in the dead letter too, should there be one.
//!
//! ```
//! use weir_sdk::log;
//!
//! let count = 3;
//! log::info!("{count} answers");
//! log::warn!("that is few");
//! ```

use std::fmt;

#[doc(inline)]
pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The flow of control.
    Trace,
    /// For whoever debugs the handler.
    Debug,
    /// For whoever watches the handler.
    Info,
    /// Something looks wrong.
    Warn,
    /// Something is wrong.
    Error,
}

/// Writes one line. The macros of this module are shorter.
pub fn write(level: Level, context: &str, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(text) => crate::host::log(level, context, text),
        None => crate::host::log(level, context, &message.to_string()),
    }
}

/// Writes a line at level trace; takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Trace, module_path!(), format_args!($($arg)+)) };
}

/// Writes a line at level debug; takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Debug, module_path!(), format_args!($($arg)+)) };
}

/// Writes a line at level info; takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Info, module_path!(), format_args!($($arg)+)) };
}

/// Writes a line at level warn; takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Warn, module_path!(), format_args!($($arg)+)) };
}

/// Writes a line at level error; takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Error, module_path!(), format_args!($($arg)+)) };
}

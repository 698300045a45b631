//! What the guests `command_*` have in common: programs with the event on stdin, built for preview 1 and 2. No part of the library, which
//! would make handlers of them.

use std::io::Read as _;

/// The event as it came.
pub fn event() -> String {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    text
}

/// A field of it that is a text without escapes.
pub fn field<'a>(event: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = event.split_once(&format!("\"{name}\":\""))?;
    Some(rest.split_once('"')?.0)
}

/// Ends the program with a code.
#[cfg(target_env = "p2")]
pub fn exit(code: u8) -> ! {
    // Rust's own can only say that all is well, or not.
    wasip2::cli::exit::exit_with_code(code);
    unreachable!()
}

/// Ends the program with a code.
#[cfg(not(target_env = "p2"))]
pub fn exit(code: u8) -> ! {
    std::process::exit(code.into())
}

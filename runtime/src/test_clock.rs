//! `weir` as the tests of weeks run it: the same, in a build whose time comes from a file.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_runtime::cli::main()
}

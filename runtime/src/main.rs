//! The `weir` command.

use std::process::ExitCode;

/// Events are made on one thread and dropped on another, where the allocator of glibc takes locks and threads wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Dropping a store captures a backtrace otherwise: 4 µs an event (sandbox.md §12). A user who wants them says so.
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        #[expect(
            unsafe_code,
            clippy::disallowed_methods,
            reason = "there is one thread yet, and the engine reads no other setting"
        )]
        // SAFETY: no other thread exists at the first line of main.
        unsafe {
            std::env::set_var("RUST_LIB_BACKTRACE", "0");
        }
    }
    weir_runtime::cli::main()
}

//! Writes to stdout for ever, and does not look at errors.
use std::io::Write;

fn main() {
    loop {
        let _ = std::io::stdout().write_all(b"all work and no play\n");
    }
}

//! The time zones are 0.2 MB of data, which an instance's memory begins with: more than `.cargo/config.toml` gives it.

/// What the memory begins with, in bytes: stack, data (0.5 MB), and the heap of an event with the rules that ship.
const INITIAL_MEMORY: usize = 1 << 20;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=--initial-memory={INITIAL_MEMORY}");
    }
}

//! The `weir` binary: built once per test process, with the profile and into the folder of the tests themselves. And the one whose time
//! comes from a file, which stands beside it: it shares all dependencies, so only the runtime is built once more.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// Names a binary that is already there; then nothing is built.
const GIVEN: &str = "WEIR_TEST_BINARY";

/// The same for the build with the feature `test-clock`.
const GIVEN_WITH_CLOCK: &str = "WEIR_TEST_CLOCK_BINARY";

/// Where the binary is.
pub(super) fn weir() -> &'static Path {
    static WEIR: OnceLock<PathBuf> = OnceLock::new();
    WEIR.get_or_init(|| std::env::var_os(GIVEN).map_or_else(|| build("weir", &[]), PathBuf::from))
}

/// Where the binary with the feature `test-clock` is.
pub(super) fn with_clock() -> &'static Path {
    static WEIR: OnceLock<PathBuf> = OnceLock::new();
    let build = || build("weir-test-clock", &["--features", "test-clock"]);
    WEIR.get_or_init(|| std::env::var_os(GIVEN_WITH_CLOCK).map_or_else(build, PathBuf::from))
}

fn build(name: &str, more: &[&str]) -> PathBuf {
    // This test is `TARGET/PROFILE/deps/NAME`.
    let test = std::env::current_exe().expect("a test knows its own file");
    let profile = test.ancestors().nth(2).expect("a test stands in the folder of its profile");
    let target = profile.parent().expect("a profile stands in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--locked", "--package", "weir-runtime", "--bin", name, "--message-format", "json"])
        .args(more);
    cargo.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    // No release has a feature for tests.
    if profile.ends_with("release") && more.is_empty() {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo runs");
    let messages = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "weir does not build:\n{messages}\n{}", String::from_utf8_lossy(&output.stderr));
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    };
    messages.lines().filter_map(executable).next_back().expect("cargo names what it built")
}

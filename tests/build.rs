//! Builds the guests of `guests/` and writes `guests.rs`: a constant with the path of each, and for each suite a macro that names them
//! all, so that a guest without a host test does not compile. Does not run anything.
//!
//! A guest is `guests/examples/<suite>_<behaviour>.rs`, or `guests/wat/<suite>_<behaviour>.wat` where Rust can't say it. A program
//! `command_<behaviour>.rs` is built twice, as a component and, under the name `module_<behaviour>`, as a core module.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that makes components.
const TARGET: &str = "wasm32-wasip2";

/// The target that makes core modules.
const MODULES: &str = "wasm32-wasip1";

/// Guests of core modules that are named after others: as built for that target, a handler carries the type of its component.
const CARRYING: [(&str, &str); 2] = [("load_carries_handler", "outcome_reject"), ("load_carries_import", "load_publish")];

/// What a guest's name may begin with: the test file `tests/sandbox_<suite>.rs` has a test for each of them.
const SUITES: [&str; 16] = [
    "outcome", "event", "limit", "import", "load", "publish", "keyvalue", "batch", "server", "chaos", "soak", "weeks", "case",
    "http", "command", "module",
];

/// The guest with a large first memory.
const LARGE: &str = "limit_good_large";

/// The module of a text component that only needs some handler.
const DONE: &str = r#"(core module $guest (func (export "handle") (param i32) (result i32) (i32.const 16)))"#;

type Result<T> = std::result::Result<T, String>;

/// Guests by name.
type Guests = BTreeMap<String, PathBuf>;

/// Brokers that may be missing on a machine: the name in `without_…`, and a file of it, below the cache folder or from the root.
/// `tests/servers/get-*.sh` put them there (`make tools`).
const BROKERS: [(&str, &str); 6] = [
    ("nats", "nats-2.15.1/nats-server"),
    ("nsq", "nsq-1.3.0/nsqd"),
    ("kafka", "kafka-4.3.1"),
    ("mosquitto", "/usr/sbin/mosquitto"),
    ("rabbitmq_old", "/usr/lib/rabbitmq/bin/rabbitmq-server"),
    ("rabbitmq", "rabbitmq-trixie/usr/lib/rabbitmq"),
];

fn main() {
    if let Err(error) = brokers().and_then(|()| build()) {
        for line in error.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<()> {
    let folder = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("guests");
    let out = PathBuf::from(variable("OUT_DIR")?);
    for watched in ["guests", "../wit", "../.cargo/config.toml"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    let mut guests = rust_guests(&folder, &out)?;
    for (name, path) in text_guests(&folder, &out)? {
        if guests.insert(name.clone(), path).is_some() {
            return Err(format!("guests: `{name}` is there twice, in examples/ and in wat/"));
        }
    }
    write(&out.join("guests.rs"), &registry(&guests)?)
}

/// Says which brokers are not here, by a `cfg` for each: the tests about it are then ignored, by name. In CI it fails instead.
fn brokers() -> Result<()> {
    for changed in ["WEIR_CACHE", "XDG_CACHE_HOME", "CI"] {
        println!("cargo::rerun-if-env-changed={changed}");
    }
    let cache = match (variable("WEIR_CACHE"), variable("XDG_CACHE_HOME")) {
        (Ok(cache), _) => PathBuf::from(cache),
        (_, Ok(cache)) => Path::new(&cache).join("weir"),
        _ => Path::new(&variable("HOME")?).join(".cache/weir"),
    };
    for (name, file) in BROKERS {
        let file = cache.join(file);
        println!("cargo::rustc-check-cfg=cfg(without_{name})");
        println!("cargo::rerun-if-changed={}", file.display());
        if !file.exists() {
            // `.ci/run` is meant to have them all.
            if variable("CI").is_ok_and(|ci| ci == "true") {
                return Err(format!("broker `{name}` is missing: {} is not there (make tools gets it)", file.display()));
            }
            println!("cargo::rustc-cfg=without_{name}");
        }
    }
    Ok(())
}

/// Compiles `guests/examples`.
fn rust_guests(folder: &Path, out: &Path) -> Result<Guests> {
    let names = names(&folder.join("examples"), "rs")?;
    let manifest = read(&folder.join("Cargo.toml"))?;
    let declared: BTreeSet<_> =
        manifest.lines().filter_map(|line| line.strip_prefix("name = ")).map(|name| name.replace('"', "")).collect();
    if let Some(name) = names.iter().find(|name| !declared.contains(*name)) {
        let lines = format!("[[example]]\nname = \"{name}\"\ncrate-type = [\"cdylib\"]");
        return Err(format!("guests/Cargo.toml does not know `examples/{name}.rs`; add to it:\n{lines}"));
    }
    let target = out.join("target");
    compile(folder, &target, TARGET, &["--examples"])?;
    let made = target.join(TARGET).join("release/examples");
    let wasm = |folder: &Path, name: &str| folder.join(name).with_extension("wasm");
    let mut guests: Guests = names.iter().map(|name| (name.clone(), wasm(&made, name))).collect();
    if let Some(path) = guests.get_mut(LARGE) {
        let large = out.join(LARGE).with_extension("wasm");
        fs::write(&large, enlarge(path)?).map_err(|error| format!("{}: {error}", large.display()))?;
        *path = large;
    }
    let commands = names.iter().filter_map(|name| Some((format!("module_{}", name.strip_prefix("command_")?), name.as_str())));
    let modules: Vec<(String, &str)> = commands.chain(CARRYING.map(|(name, of)| (name.to_owned(), of))).collect();
    let examples: Vec<&str> = modules.iter().flat_map(|(_, of)| ["--example", of]).collect();
    compile(folder, &target, MODULES, &examples)?;
    let made = target.join(MODULES).join("release/examples");
    guests.extend(modules.iter().map(|(name, of)| (name.clone(), wasm(&made, of))));
    Ok(guests)
}

/// Compiles examples for a target.
fn compile(folder: &Path, into: &Path, target: &str, examples: &[&str]) -> Result<()> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(folder)
        .args(["build", "--locked", "--release", "--target", target, "--target-dir"])
        .arg(into)
        .args(examples);
    // What the outer cargo or clippy says to its own compiler is not for the guests; the repository's .cargo/config.toml is.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        cargo.env_remove(name);
    }
    let built = cargo.output().map_err(|error| format!("guests: cargo does not start: {error}"))?;
    if !built.status.success() {
        let hint = if has(target) { "" } else { &*format!("\nguests: the target is missing: run `rustup target add {target}`") };
        return Err(format!("guests: don't compile:\n{}{hint}", String::from_utf8_lossy(&built.stderr)));
    }
    Ok(())
}

/// The guest with a larger first memory. The linker can't give it: .cargo/config.toml says one size, and says it last.
fn enlarge(path: &Path) -> Result<Vec<u8>> {
    // A memory section with one memory of so many pages that may grow.
    let section = |pages: u8| [5, 3, 1, 0, pages];
    let (linked, larger) = (section(4), section(16));
    let mut bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let found: Vec<usize> =
        (0..bytes.len()).filter(|at| bytes.get(*at..).is_some_and(|rest| rest.starts_with(&linked))).collect();
    match found.as_slice() {
        [at] => bytes.splice(*at..at + linked.len(), larger).for_each(drop),
        _ => return Err(format!("guests: `{LARGE}` has {} memory sections of 4 pages, expected one", found.len())),
    }
    Ok(bytes)
}

/// Makes components of `guests/wat`.
fn text_guests(folder: &Path, out: &Path) -> Result<Guests> {
    let shell = read(&folder.join("shell.wat"))?;
    let mut guests = Guests::new();
    fs::create_dir_all(out.join("wat")).map_err(|error| format!("{}: {error}", out.display()))?;
    for name in names(&folder.join("wat"), "wat")? {
        let text = component(&read(&folder.join("wat").join(&name).with_extension("wat"))?, &shell);
        let path = out.join("wat").join(&name).with_extension("wat");
        write(&path, &text)?;
        guests.insert(name, path);
    }
    Ok(guests)
}

/// See shell.wat.
fn component(text: &str, shell: &str) -> String {
    let handler = |core: &str, version: &str| {
        let post_return = if core.contains("\"post-return\"") { r#"(post-return (core func $guest "post-return"))"# } else { "" };
        shell.replace("CORE\n", &format!("{core}\n")).replace("POST-RETURN", post_return).replace("VERSION", version)
    };
    if let Some((before, after)) = text.split_once("HANDLER@") {
        let end = after.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(after.len());
        let (version, after) = after.split_at(end);
        return format!("{before}\n{}\n{after}", handler(DONE, version));
    }
    let whole = text.lines().any(|line| line.starts_with("(component") || line.starts_with("(module"));
    if whole { text.to_owned() } else { format!("(component\n{})\n", handler(text, "0.1.0")) }
}

fn registry(guests: &Guests) -> Result<String> {
    let mut text = String::new();
    let mut suites: BTreeMap<&str, Vec<&str>> = SUITES.iter().map(|suite| (*suite, Vec::new())).collect();
    for (name, path) in guests {
        let suite = name.split('_').next().unwrap_or_default();
        let Some(of_suite) = suites.get_mut(suite) else {
            let known = SUITES.join("_, ");
            return Err(format!(
                "guests: `{name}` belongs to no suite: its name begins with none of {known}_ (or add one to tests/build.rs)"
            ));
        };
        of_suite.push(name);
        let _ = writeln!(text, "/// The component `{name}`.\npub const {}: &str = {path:?};", name.to_uppercase());
    }
    for (suite, names) in suites {
        let calls: String = names.iter().map(|name| format!(" $each!({name});")).collect();
        let _ = writeln!(text, "/// Calls a macro with the name of each guest `{suite}_*`.\n#[macro_export]");
        let _ = writeln!(text, "macro_rules! foreach_{suite} {{ ($each:ident) => {{{calls} }} }}");
    }
    Ok(text)
}

/// The names, without their ending, of the files in a folder.
fn names(folder: &Path, ending: &str) -> Result<BTreeSet<String>> {
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|found| found == ending) {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

fn has(target: &str) -> bool {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
    asked.is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_dir())
}

fn variable(name: &str) -> Result<String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Written only when it is another text: what depends on it is not built again for nothing.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

//! The repository's shape, as house rules that a program can check. Style that needs judgement is not here.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, with its tests: what fits one reading.
const LINES_MAX: usize = 400;

/// Files that are longer, and why.
const LONGER: &[(&str, &str)] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every file below the folder, by its path from the root, but what is built, kept or hidden.
fn files(folder: &Path, into: &mut Vec<(String, PathBuf)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            files(&path, into);
        } else {
            into.push((path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(), path));
        }
    }
}

/// Path from the root, and text, of every Rust file.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(root(), &mut found);
    found.retain(|(name, _)| name.ends_with(".rs"));
    found.sort();
    assert!(found.len() > 50, "{} files", found.len());
    found.into_iter().map(|(name, path)| (name, fs::read_to_string(path).unwrap())).collect()
}

#[track_caller]
fn check(rule: &str, mut breaks: impl FnMut(&str, &str) -> Option<String>) {
    let broken: Vec<String> =
        sources().iter().filter_map(|(name, text)| breaks(name, text).map(|what| format!("{name}: {what}"))).collect();
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

/// Lines that are code, without their comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()));
    lines.filter(|(_, line)| !line.trim().is_empty())
}

#[test]
fn every_file_opens_with_its_purpose() {
    // Template files are read by `weir new`, not compiled here.
    check("a .rs file opens with `//!`", |name, text| {
        let data = name.ends_with("template/files.rs");
        (!data && !text.starts_with("//! ")).then(|| text.lines().next().unwrap_or("nothing").to_owned())
    });
}

#[test]
fn names_say_what_is_inside() {
    let unwelcome = ["mod.rs", "imp.rs", "utils.rs", "util.rs", "common.rs", "helpers.rs", "types.rs", "misc.rs"];
    check("no file or folder of this name", |name, _| {
        let parts: Vec<&str> = name.split('/').collect();
        let bad = |part: &&str| unwelcome.contains(part) || unwelcome.contains(&format!("{part}.rs").as_str());
        parts.iter().copied().find(|part| bad(part)).map(str::to_owned)
    });
}

#[test]
fn files_are_short() {
    check(&format!("at most {LINES_MAX} lines (or a line in LONGER that says why)"), |name, text| {
        let lines = text.lines().count();
        (lines > LINES_MAX && !LONGER.iter().any(|(known, _)| *known == name)).then(|| format!("{lines} lines"))
    });
    for &(name, why) in LONGER {
        let text = fs::read_to_string(root().join(name)).unwrap_or_default();
        assert!(text.lines().count() > LINES_MAX && !why.is_empty(), "{name} is no longer longer");
    }
}

#[test]
fn one_module_names_each_foreign_thing() {
    let runtime = "runtime/src/";
    let rules: [(&str, &[&str]); 5] = [
        ("wasmtime", &["sandbox.rs", "sandbox/", "cli/bench/", "cli/bench.rs"]),
        ("async_nats", &["queue/nats.rs", "queue/nats/"]),
        ("redb", &["queue/disk.rs", "queue/disk/", "store.rs", "store/"]),
        ("notify", &["handler/watch.rs"]),
        // The configuration checks addresses by the rules that mails are written by.
        ("lettre", &["mail.rs", "mail/", "config/grants.rs"]),
    ];
    for (foreign, homes) in rules {
        check(&format!("only {homes:?} may name `{foreign}`"), |name, text| {
            let name = name.strip_prefix(runtime)?;
            if homes.iter().any(|home| name.starts_with(home)) {
                return None;
            }
            let names = |line: &str| line.contains(&format!("{foreign}::")) || line.contains(&format!("use {foreign};"));
            code(text).find(|(_, line)| names(line)).map(|(at, line)| format!("line {at}: {}", line.trim()))
        });
    }
}

#[test]
fn decisions_know_no_clock_and_no_runtime() {
    for name in ["verdict.rs", "outcome.rs", "outbox.rs", "stats.rs", "event.rs"] {
        let text = fs::read_to_string(root().join("runtime/src").join(name)).unwrap();
        let impure = ["tokio::", "Instant::now", "SystemTime", "clock::now", "std::fs"];
        let found = code(&text).find(|(_, line)| impure.iter().any(|word| line.contains(word)));
        assert_eq!(found, None, "{name}");
    }
}

#[test]
fn nothing_is_left_lying_about() {
    // In pieces, so that this file is not what it finds.
    let words =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["dbg", "!("].concat(), ["XX", "X:"].concat(), ["to", "do!("].concat()];
    check("unfinished work is an issue, not a comment", |_, text| {
        let found = text.lines().enumerate().find(|(_, line)| words.iter().any(|word| line.contains(word)));
        found.map(|(at, line)| format!("line {}: {}", at + 1, line.trim()))
    });
    let unbounded = ["unbounded_", "channel"].concat();
    check("every channel has a bound", |_, text| text.contains(&unbounded).then(|| unbounded.clone()));
    check("a lint is expected with its reason, never allowed", |_, text| {
        let allow = ["#[al", "low("].concat();
        let inner = ["#![al", "low("].concat();
        (text.contains(&allow) || text.contains(&inner)).then(|| "use expect".to_owned())
    });
    check("a doc comment is a whole sentence", |_, text| {
        let cut = |line: &str| line.trim_start().starts_with("//") && line.trim_end().ends_with("...");
        text.lines().enumerate().find(|(_, line)| cut(line)).map(|(at, _)| format!("line {}", at + 1))
    });
}

#[test]
fn the_architecture_names_every_module() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md stands at the top level");
    assert!(text.lines().count() <= 250, "ARCHITECTURE.md is read in one sitting");
    let library = fs::read_to_string(root().join("runtime/src/lib.rs")).unwrap();
    let modules = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let missing: Vec<&str> =
        modules.filter(|module| !text.contains(&format!("{module}.rs")) && !text.contains(&format!("`{module}`"))).collect();
    assert!(missing.is_empty(), "not named in ARCHITECTURE.md: {missing:?}");
}

#[test]
fn the_readme_types_what_there_is() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md stands at the top level");
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: Vec<&str> = makefile.lines().filter_map(|line| line.split_once(':').map(|(target, _)| target)).collect();
    let words = |text: &str| text.trim_matches(['`', '.', ',', ')', '(', ':', ';']).to_owned();
    let typed = readme.split("make ").skip(1).filter_map(|rest| rest.split_whitespace().next()).map(words);
    // Prose may say "make" too: what counts stands in backticks or in a block of code.
    let typed: Vec<String> =
        typed.filter(|word| readme.contains(&format!("`make {word}`")) || readme.contains(&format!("    make {word}"))).collect();
    assert!(typed.iter().any(|target| target == "run") && typed.iter().any(|target| target == "test"), "{typed:?}");
    let unknown: Vec<_> = typed.iter().filter(|target| !targets.contains(&target.as_str())).collect();
    assert!(unknown.is_empty(), "README types what Makefile does not have: {unknown:?}");
}

#[test]
fn the_readme_shows_a_handler_that_is_there() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let first = |language: &str| {
        let block = readme.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split_once("```"));
        block.unwrap_or_else(|| panic!("README.md has a block of {language}")).0
    };
    let example = |file: &str| fs::read_to_string(root().join("examples/3-send-mail").join(file)).unwrap();
    let source = example("src/lib.rs");
    // Without the purpose above it and the tests below it.
    let start = source.find("use weir_sdk").unwrap();
    let end = source.find("\n#[cfg(test)]").unwrap();
    assert_eq!(first("rust"), source.get(start..end).unwrap());
    assert_eq!(first("toml"), example("weir.toml"));
}

#[test]
fn no_release_takes_its_time_from_a_file() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let feature = "test-clock";
    let clock = read("runtime/src/clock.rs");
    let refused = "#[cfg(all(feature = \"test-clock\", not(debug_assertions)))]\ncompile_error!(";
    assert!(clock.contains(refused), "a build without debug assertions refuses the feature");
    let manifest = read("runtime/Cargo.toml");
    let asked = |line: &&str| line.contains(feature);
    let lines: Vec<&str> = manifest.lines().filter(asked).filter(|line| !line.starts_with('#')).collect();
    let own = ["name = \"weir-test-clock\"", "required-features = [\"test-clock\"]", "test-clock = []"];
    assert_eq!(lines, own, "it is no default, and no other feature has it");
    assert!(!read("Cargo.toml").contains("debug-assertions"), "profiles have the debug assertions that cargo gives them");
    let mut all = Vec::new();
    files(root(), &mut all);
    let manifests = all.iter().filter(|(name, _)| name.ends_with("Cargo.toml") && name != "runtime/Cargo.toml");
    let others: Vec<String> = manifests.map(|(name, _)| name.clone()).chain(["Makefile".into(), ".ci/run".into()]).collect();
    let found: Vec<&String> = others.iter().filter(|name| read(name).contains(feature)).collect();
    assert!(others.len() > 5 && found.is_empty(), "nothing that is built for people asks for it: {found:?}");
}

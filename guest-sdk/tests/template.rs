//! What `weir new` writes: the SDK in full, with the dependencies that it really has. That it builds is shown by the server's tests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

const FILES: &[(&str, &str)] = &include!("../template/files.rs");

fn below(folder: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(format!("weir-sdk/{}", path.strip_prefix(root).unwrap().display()));
            }
        }
    }
    found
}

fn content(path: &str) -> &'static str {
    FILES.iter().find(|(name, _)| *name == path).unwrap_or_else(|| panic!("{path} is not in the template")).1
}

#[test]
fn the_whole_sdk_is_written() {
    let written: BTreeSet<String> =
        FILES.iter().map(|(path, _)| (*path).to_owned()).filter(|path| path.starts_with("weir-sdk/")).collect();
    let mut expected = below("src");
    expected.extend(below("wit"));
    expected.insert("weir-sdk/Cargo.toml".to_owned());
    assert_eq!(written, expected);
}

#[test]
fn its_manifest_has_the_same_dependencies() {
    let section = |text: &str, from: &str| -> Vec<String> {
        let section = text.split(from).nth(1).unwrap_or_else(|| panic!("no {from}"));
        section
            .lines()
            .skip(1)
            .take_while(|line| !line.starts_with('['))
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let own = include_str!("../Cargo.toml");
    let workspace = include_str!("../../Cargo.toml");
    for header in ["[dependencies]", "[target.'cfg(target_family = \"wasm\")'.dependencies]"] {
        let inherited = |line: String| match line.strip_suffix(".workspace = true") {
            Some(name) => workspace.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap().to_owned(),
            None => line,
        };
        let expected: Vec<String> = section(own, header).into_iter().map(inherited).collect();
        assert_eq!(section(content("weir-sdk/Cargo.toml"), header), expected, "{header}");
    }
}

#[test]
fn the_profile_is_that_of_our_own_handlers() {
    let keys = |text: &str, header: &str| -> BTreeSet<String> {
        let section = text.split(header).nth(1).unwrap();
        let lines = section.lines().skip(1).take_while(|line| !line.starts_with('['));
        lines
            .filter(|line| line.contains(" = ") && !line.starts_with("inherits") && !line.starts_with("debug"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(keys(content("Cargo.toml"), "[profile.release]"), keys(include_str!("../../Cargo.toml"), "[profile.guest]"));
    let flags = |text: &'static str| text.lines().find(|line| line.starts_with("rustflags"));
    let written = flags(content(".cargo/config.toml"));
    assert!(written.is_some() && written == flags(include_str!("../../.cargo/config.toml")), "{written:?}");
}

//! The contracts: the SDK's own copies are those of `wit/`, and everything in `wit/` parses.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

fn folders(path: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut folders: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn the_copies_are_equal() {
    for copy in folders("wit") {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit").join(copy.file_name().unwrap());
        let names = |folder: &Path| {
            let mut names: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&copy), names(&original), "{}", copy.display());
        for name in names(&copy) {
            let (copied, wanted) = (std::fs::read(copy.join(&name)).unwrap(), std::fs::read(original.join(&name)).unwrap());
            assert!(copied == wanted, "{} differs from {}", copy.join(&name).display(), original.join(&name).display());
        }
    }
}

#[test]
fn every_package_parses_and_is_named_by_its_folder() {
    let all = folders("../wit");
    assert_eq!(all.len(), 7);
    for folder in all {
        let mut resolve = wit_parser::Resolve::default();
        let (package, _) = resolve.push_path(&folder).unwrap_or_else(|e| panic!("{}: {e:?}", folder.display()));
        let name = &resolve.packages[package].name;
        let expected = format!("{}-{}-{}", name.namespace, name.name, name.version.as_ref().unwrap());
        assert_eq!(folder.file_name().unwrap().to_str(), Some(expected.as_str()));
    }
}

#[test]
fn all_packages_live_in_one_resolution() {
    let mut resolve = wit_parser::Resolve::default();
    for folder in folders("../wit") {
        resolve.push_path(&folder).unwrap();
    }
    assert_eq!(resolve.packages.len(), 7);
}

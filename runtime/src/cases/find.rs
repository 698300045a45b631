//! Which files hold cases: those that are named, and those below folders that are named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How files of cases are named.
pub const SUFFIX: &str = ".test.toml";

/// Deepest folder that is looked into, and most entries that are looked at: a checkout with everything in it has fewer; a whole disk
/// has more, and nobody means it.
const DEPTH_MAX: usize = 16;
const ENTRIES_MAX: usize = 200_000;

/// Folders that hold what others made.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// Every file of cases, in the order of their paths. A file that is named is one, whatever its name; below a folder hidden ones are
/// left out, and links to folders are not followed.
///
/// # Errors
/// When a path is not there or can't be read, or a folder holds more than anybody means.
pub fn find(paths: &[PathBuf]) -> Result<BTreeSet<PathBuf>, String> {
    let mut found = BTreeSet::new();
    let mut entries = 0;
    for path in paths {
        if path.is_dir() {
            below(path, 0, &mut entries, &mut found)?;
        } else if path.exists() {
            found.insert(path.clone());
        } else {
            return Err(format!("`{}` does not exist", path.display()));
        }
    }
    Ok(found)
}

fn below(folder: &Path, depth: usize, entries: &mut usize, found: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("`{}` can't be read: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        *entries += 1;
        if *entries > ENTRIES_MAX {
            return Err(format!(
                "`{}` and what was before it hold over {ENTRIES_MAX} files (name a smaller folder)",
                folder.display()
            ));
        }
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(unreadable)?);
        let name = name.to_string_lossy();
        // The current folder is no part of the name that people know a file by.
        let path = if folder == Path::new(".") { PathBuf::from(&*name) } else { folder.join(&*name) };
        if kind.is_dir() {
            if !name.starts_with('.') && !SKIPPED.contains(&&*name) && depth < DEPTH_MAX {
                below(&path, depth + 1, entries, found)?;
            }
        } else if name.ends_with(SUFFIX) && !name.starts_with('.') {
            found.insert(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_cases_are_found_below_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["b.test.toml", "a/a.test.toml", "a/weir.toml", ".git/x.test.toml", "target/y.test.toml", "a/.z.test.toml"];
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = find(&[folder.path().to_owned()]).unwrap();
        let found: Vec<_> = found.iter().map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(found, ["a/a.test.toml", "b.test.toml"]);
        let named = folder.path().join("a/weir.toml");
        assert_eq!(find(std::slice::from_ref(&named)).unwrap(), BTreeSet::from([named]));
        assert!(find(&[folder.path().join("nowhere")]).unwrap_err().ends_with("nowhere` does not exist"));
    }
}

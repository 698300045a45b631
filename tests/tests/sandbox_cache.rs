//! The cache of compiled code: what was compiled once is mapped afterwards, and what can't be trusted is ignored and made again.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use weir_runtime::config::{Ceilings, Limits};
use weir_runtime::outcome::Outcome;
use weir_runtime::sandbox::{Permits, Sandbox, Setup};
use weir_tests::guests::rig::{HANDLER, Loaded, event};
use weir_tests::guests::*;

/// A data folder, and sandboxes over it, one after another as a server that is started again.
struct Data(TempDir);

impl Data {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn code(&self) -> PathBuf {
        self.0.path().join("code")
    }

    /// Loads a component in a new sandbox and runs it, whatever state the folder is in. Answers whether its code was mapped from there.
    fn load(&self, guest: &str) -> bool {
        let sandbox = Sandbox::new(&Ceilings::default(), 2, Some(self.0.path()));
        let (bytes, inspection) = sandbox.read(guest.as_ref()).unwrap();
        let program = sandbox.program(&bytes, &inspection).unwrap();
        let mapped = fs::read_to_string("/proc/self/maps").unwrap().contains(self.0.path().to_str().unwrap());
        let setup = Setup {
            handler: Arc::from(HANDLER),
            limits: Limits::default(),
            config: Vec::new(),
            mailer: None,
            publish: None,
            http: None,
            redactor: Default::default(),
            buckets: None,
            max_event: 1 << 20,
            permits: Permits::new(&sandbox),
        };
        let loaded = Loaded { program, setup: Arc::new(setup) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let report = runtime.block_on(loaded.run(&Arc::new(event()), 1));
        assert_eq!(report.outcome, Outcome::Done, "{report:?}");
        mapped
    }

    /// The files that are there.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.code()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// The one file that is there.
    fn file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    /// With the code of one component in it.
    fn filled() -> Self {
        let data = Self::new();
        assert!(!data.load(OUTCOME_DONE), "nothing was there");
        assert!(data.load(OUTCOME_DONE), "what was compiled is mapped");
        data
    }

    /// What was done to the file was seen: it is not mapped, the component runs all the same, and good code is there again.
    fn is_healed(&self) {
        assert!(!self.load(OUTCOME_DONE), "untrusted code was mapped");
        assert!(self.load(OUTCOME_DONE), "it was not made again");
        assert_eq!(mode(&self.file()), 0o600);
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_compiled_is_mapped() {
    let data = Data::filled();
    assert_eq!((mode(&data.code()), mode(&data.file())), (0o700, 0o600));
    let (file, written) = (data.file(), fs::metadata(data.file()).unwrap().modified().unwrap());
    let inode = fs::metadata(&file).unwrap().ino();
    assert!(data.load(OUTCOME_DONE));
    let found = fs::metadata(data.file()).unwrap();
    assert_eq!((found.ino(), found.modified().unwrap()), (inode, written), "written once and never changed");
}

#[test]
fn a_core_module_is_mapped_too() {
    let data = Data::new();
    assert!(!data.load(MODULE_COUNTER));
    assert!(data.load(MODULE_COUNTER));
    assert_eq!(data.files().len(), 1);
}

#[test]
fn another_component_has_another_file() {
    let data = Data::filled();
    assert!(!data.load(LOAD_NEWER_PATCH));
    assert_eq!(data.files().len(), 2);
    assert!(data.load(LOAD_NEWER_PATCH) && data.load(OUTCOME_DONE));
}

/// Engines of another class compile differently.
#[test]
fn another_engine_has_another_key() {
    let data = Data::new();
    data.load(LIMIT_GOOD);
    data.load(LIMIT_GOOD_LARGE);
    let names: Vec<_> = data.files().iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let key = |name: &String| name.split('-').skip(1).take(2).collect::<Vec<_>>().join("-");
    assert_eq!(names.len(), 2);
    assert_ne!(key(&names[0]), key(&names[1]), "{names:?}");
    assert!(names.iter().any(|name| name.contains("-small-")) && names.iter().any(|name| name.contains("-large-")), "{names:?}");
    assert!(names.iter().all(|name| name.contains("-wasmtime48")), "{names:?}");
}

#[test]
fn a_changed_byte_is_seen_anywhere() {
    let data = Data::filled();
    let size = fs::metadata(data.file()).unwrap().len();
    for at in [0, 100, size / 2, size - 1] {
        let mut content = fs::read(data.file()).unwrap();
        content[usize::try_from(at).unwrap()] ^= 1;
        fs::write(data.file(), &content).unwrap();
        data.is_healed();
    }
}

#[test]
fn a_file_cut_short_or_too_long_is_seen() {
    let data = Data::filled();
    let whole = fs::read(data.file()).unwrap();
    for content in [&whole[..0], &whole[..1], &whole[..whole.len() / 2], &whole[..whole.len() - 1], &[&whole[..], b"\0"].concat()]
    {
        fs::write(data.file(), content).unwrap();
        data.is_healed();
    }
}

/// Nonsense under the right name, its hash included: only the engine can tell.
#[test]
fn nonsense_with_the_right_hash_is_refused() {
    let data = Data::filled();
    let file = data.file();
    let key = file.file_name().unwrap().to_string_lossy().rsplit_once('.').unwrap().0.to_owned();
    for content in [b"nonsense".to_vec(), b"\x7fELF nonsense".repeat(1000), fs::read(OUTCOME_DONE).unwrap()] {
        for file in data.files() {
            fs::remove_file(file).unwrap();
        }
        let planted = data.code().join(format!("{key}.{}", blake3::hash(&content).to_hex()));
        fs::write(&planted, &content).unwrap();
        set_mode(&planted, 0o600);
        data.is_healed();
    }
}

#[test]
fn a_file_that_others_may_write_is_not_trusted() {
    let data = Data::filled();
    for mode in [0o620, 0o602, 0o666, 0o660] {
        set_mode(&data.file(), mode);
        data.is_healed();
    }
    // That others may read it takes nothing away.
    set_mode(&data.file(), 0o644);
    assert!(data.load(OUTCOME_DONE));
}

#[test]
fn a_link_in_place_of_a_file_is_not_followed() {
    let data = Data::filled();
    let (file, elsewhere) = (data.file(), data.0.path().join("elsewhere"));
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    data.is_healed();
    assert!(data.file().symlink_metadata().unwrap().is_file());
    assert!(elsewhere.is_file(), "what it led to is not ours to remove");
}

#[test]
fn a_folder_in_place_of_a_file_is_not_mapped() {
    let data = Data::filled();
    let file = data.file();
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(!data.load(OUTCOME_DONE));
}

#[test]
fn a_pipe_in_place_of_a_file_does_not_block() {
    let data = Data::filled();
    let file = data.file();
    fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg("-m").arg("600").arg(&file).status().unwrap().success());
    data.is_healed();
}

#[test]
fn a_folder_that_others_may_use_is_not_used() {
    for mode in [0o770, 0o707, 0o750, 0o777, 0o1777] {
        let data = Data::filled();
        set_mode(&data.code(), mode);
        let before = data.files();
        assert!(!data.load(OUTCOME_DONE), "mode {mode:o}");
        assert!(!data.load(LOAD_NEWER_PATCH) && data.files() == before, "nothing is written to it");
    }
}

#[test]
fn a_link_in_place_of_the_folder_is_not_followed() {
    let data = Data::filled();
    let elsewhere = data.0.path().join("elsewhere");
    fs::rename(data.code(), &elsewhere).unwrap();
    symlink(&elsewhere, data.code()).unwrap();
    assert!(!data.load(OUTCOME_DONE));
    assert!(!data.load(LOAD_NEWER_PATCH));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1, "nothing is written through it");
}

#[test]
fn a_file_in_place_of_the_folder_is_left_alone() {
    let data = Data::new();
    fs::write(data.code(), "mine").unwrap();
    assert!(!data.load(OUTCOME_DONE));
    assert_eq!(fs::read_to_string(data.code()).unwrap(), "mine");
}

/// Only the system's own user can give a file away: as anybody else, nobody could have planted one for us either.
#[test]
fn what_belongs_to_somebody_else_is_not_trusted() {
    let data = Data::filled();
    if chown(data.file(), Some(12_345), None).is_err() {
        return;
    }
    data.is_healed();
    chown(data.code(), Some(12_345), None).unwrap();
    assert!(!data.load(OUTCOME_DONE));
}

/// What a build that was killed left behind goes, and does not count as code.
#[test]
fn half_written_files_go() {
    let data = Data::filled();
    fs::write(data.code().join(".123-456"), "half").unwrap();
    assert!(data.load(OUTCOME_DONE));
    data.file();
}

/// A folder made before with the right mode is as good as one made by us.
#[test]
fn a_folder_that_is_there_is_used() {
    let data = Data::new();
    fs::DirBuilder::new().mode(0o700).create(data.code()).unwrap();
    assert!(!data.load(OUTCOME_DONE));
    assert!(data.load(OUTCOME_DONE));
}

/// Handlers that are loaded go on when the files of their code go.
#[test]
fn what_is_mapped_stays() {
    let data = Data::filled();
    let sandbox = Sandbox::new(&Ceilings::default(), 2, Some(data.0.path()));
    let (bytes, inspection) = sandbox.read(OUTCOME_DONE.as_ref()).unwrap();
    let program = sandbox.program(&bytes, &inspection).unwrap();
    fs::remove_dir_all(data.code()).unwrap();
    let setup = Setup {
        handler: Arc::from(HANDLER),
        limits: Limits::default(),
        config: Vec::new(),
        mailer: None,
        publish: None,
        http: None,
        redactor: Default::default(),
        buckets: None,
        max_event: 1 << 20,
        permits: Permits::new(&sandbox),
    };
    let loaded = Loaded { program, setup: Arc::new(setup) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(loaded.run(&Arc::new(event()), 1)).outcome, Outcome::Done);
}

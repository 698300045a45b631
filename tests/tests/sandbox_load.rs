//! What can't be a handler is refused at load, with words that say what to do; what can be one loads in every form it may come in.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weir_runtime::config::{Ceilings, Relay};
use weir_runtime::outcome::Outcome;
use weir_runtime::sandbox::{LoadError, Sandbox};
use weir_tests::assert_test_exists;
use weir_tests::guests::rig::{Rig, Settings, check};
use weir_tests::guests::*;

weir_tests::foreach_load!(assert_test_exists);

fn settings() -> Settings {
    Settings::default()
}

/// Why a component is refused.
fn refused(path: impl AsRef<Path>) -> LoadError {
    refused_with(path, &settings())
}

fn refused_with(path: impl AsRef<Path>, settings: &Settings) -> LoadError {
    let rig = Rig::new();
    let error = rig.load(path, settings).err().expect("it loads");
    rig.assert_serves();
    error
}

/// Why a component that can be compiled is refused all the same, in words that have all of these in them.
fn unusable(path: &str, words: &[&str]) {
    let error = refused(path);
    let LoadError::Unusable(text) = &error else { panic!("{error:?}") };
    for word in words {
        assert!(text.contains(word), "`{word}`: {text}");
    }
}

/// A file with this content, and the folder that it goes with.
fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handler.wasm");
    fs::write(&path, content).unwrap();
    (folder, path)
}

/// The words that refuse a file with this content.
fn refused_file(content: &[u8]) -> String {
    let (_folder, path) = file(content);
    refused(path).to_string()
}

#[test]
fn a_file_that_is_not_there() {
    let error = refused("/nowhere/handler.wasm");
    assert!(matches!(error, LoadError::Unreadable(_)) && error.to_string().contains("No such file"), "{error}");
}

#[test]
fn a_folder() {
    let error = refused(tempfile::tempdir().unwrap().path());
    assert!(matches!(error, LoadError::Unreadable(_)) && error.to_string().contains("directory"), "{error}");
}

#[test]
fn an_empty_file() {
    assert_eq!(refused_file(b""), "is empty (a build that is still writing it?)");
}

#[test]
fn a_text_that_is_no_wasm() {
    assert!(refused_file(b"[server]\nlisten = \"127.0.0.1:0\"\n").starts_with("is neither wasm nor its text form: "));
    assert!(refused_file("größer als alles".as_bytes()).starts_with("is neither wasm nor its text form: "));
}

#[test]
fn bytes_that_are_no_wasm() {
    let error = refused_file(&[0xff; 1000]);
    assert!(error.starts_with("is neither wasm nor its text form: "), "{error}");
    let error = refused_file(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0 an ordinary program");
    assert!(error.starts_with("is neither wasm nor its text form: "), "{error}");
    let error = refused_file(b"\0asm\x0d\0\x01\0 and then nonsense");
    assert!(error.starts_with("not valid wasm: "), "{error}");
}

/// Cut short anywhere, as by a build that is still writing it or a disk that is full.
#[test]
fn a_truncated_file() {
    let whole = fs::read(OUTCOME_DONE).unwrap();
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handler.wasm");
    for part in (1..64).map(|part| whole.len() * part / 64).chain([1, 4, 7, 8, 9, whole.len() - 1]) {
        fs::write(&path, &whole[..part]).unwrap();
        let error = rig.load(&path, &settings()).err().unwrap_or_else(|| panic!("{part} of {} bytes load", whole.len()));
        assert!(matches!(error, LoadError::Unusable(_)), "{part}: {error:?}");
    }
    rig.assert_serves();
}

/// Bits that flipped: refused, or loaded and run; never worse.
#[test]
fn a_damaged_file() {
    let whole = fs::read(LOAD_EMAIL).unwrap();
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handler.wasm");
    let settings = Settings::limits(|limits| (limits.fuel, limits.deadline) = (1_000_000, Duration::from_millis(200)));
    let settings = settings.mail(Relay::File(folder.path().join("outbox")));
    let mut refused = 0;
    // Evenly over the file, but for the names at its end.
    for at in (0..40).map(|part| whole.len() * part / 48 + part % 7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged).unwrap();
        match rig.load(&path, &settings) {
            Ok(loaded) => drop(rig.run(&loaded)),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0);
    rig.assert_serves();
}

#[test]
fn a_file_over_the_bound() {
    let ceilings = Ceilings { component: 10_000, ..Ceilings::default() };
    let sandbox = Sandbox::new(&ceilings, 1, None);
    let size = fs::metadata(OUTCOME_DONE).unwrap().len();
    let error = sandbox.read(OUTCOME_DONE.as_ref()).unwrap_err();
    assert_eq!(error, LoadError::TooLarge { size, bound: 10_000 });
    assert!(error.to_string().contains("`[ceilings] component`"), "{error}");
    sandbox.read(OUTCOME_TRAP.as_ref()).unwrap();
}

/// Compiled code can't be checked: it is not run, whoever made it.
#[test]
fn a_precompiled_file() {
    let data = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(&Ceilings::default(), 1, Some(data.path()));
    let (bytes, inspection) = sandbox.read(OUTCOME_TRAP.as_ref()).unwrap();
    sandbox.program(&bytes, &inspection).unwrap();
    let (module, of_module) = sandbox.read(MODULE_ECHO.as_ref()).unwrap();
    sandbox.program(&module, &of_module).unwrap();
    let compiled: Vec<_> = fs::read_dir(data.path().join("code")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(compiled.len(), 2);
    for compiled in compiled {
        let error = refused(compiled);
        assert_eq!(error, LoadError::Precompiled);
        assert!(error.to_string().contains("give the .wasm"), "{error}");
    }
}

#[test]
fn text_and_binary_are_the_same() {
    let rig = Rig::new();
    // As text straight from the file; the binary is what `read` makes of it.
    let (binary, inspection) = rig.sandbox.read(OUTCOME_TRAP.as_ref()).unwrap();
    assert!(binary.starts_with(b"\0asm"));
    let (_folder, path) = file(&binary);
    let loaded = rig.load(path, &settings()).unwrap();
    assert_eq!(&*loaded.program.digest, inspection.digest);
    assert_eq!(rig.run(&loaded).outcome.name(), "trap");
}

#[test]
fn load_core_module() {
    unusable(LOAD_CORE_MODULE, &["core module", "exports `memory`, `price-of`", "`_start`", "wasm32-wasip2", "weir build"]);
}

#[test]
fn load_no_handler() {
    unusable(LOAD_NO_HANDLER, &["exports `acme:orders/run@1.0.0`", "expected `weir:events/handler@0.1.0`", "weir new"]);
}

#[test]
fn load_command() {
    unusable(LOAD_COMMAND, &["`wasi:cli/run`", "without a function `run`"]);
}

#[test]
fn load_command_type() {
    let rig = Rig::new();
    let error = rig.probe(&rig.load(LOAD_COMMAND_TYPE, &settings()).unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("exports `run` with another type, expected `run` as in `wasi:cli/run@0.2.0`: "), "{error}");
}

#[test]
fn load_command_version() {
    unusable(LOAD_COMMAND_VERSION, &["`wasi:cli/run@0.3.0`", "0.2.x only"]);
}

#[test]
fn load_module_start() {
    unusable(LOAD_MODULE_START, &["does not fit what Weir offers", "`_start` is no function without parameters and results"]);
}

#[test]
fn load_module_imports() {
    let error = refused(LOAD_MODULE_IMPORTS);
    let LoadError::Imports(lines) = &error else { panic!("{error:?}") };
    let [preview0, other] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(preview0, "imports `wasi_unstable#proc_exit`, and Weir has that interface in version wasi_snapshot_preview1 only");
    assert_eq!(other, "imports `env#abort`, which Weir does not have");
}

#[test]
fn load_module_type() {
    unusable(LOAD_MODULE_TYPE, &["carries a component type"]);
}

/// A core module that carries the type of a component is that component.
#[test]
fn load_carries_handler() {
    let rig = Rig::new();
    let (_, inspection) = rig.sandbox.read(LOAD_CARRIES_HANDLER.as_ref()).unwrap();
    assert!(inspection.adapted && inspection.exports == ["weir:events/handler@0.1.0"], "{inspection:?}");
    let report = check(LOAD_CARRIES_HANDLER, &settings(), "reject", None);
    assert_eq!(report.outcome, Outcome::Reject { reason: "no such account".to_owned() });
}

#[test]
fn load_carries_import() {
    let error = refused(LOAD_CARRIES_IMPORT).to_string();
    assert!(error.contains("`weir:events/publisher@0.1.0`") && error.contains("not granted"), "{error}");
    check(LOAD_CARRIES_IMPORT, &settings().publish(&["events"]), "done", None);
}

#[test]
fn load_no_function() {
    unusable(LOAD_NO_FUNCTION, &["`weir:events/handler`", "without a function `handle`"]);
}

#[test]
fn load_next_version() {
    unusable(LOAD_NEXT_VERSION, &["`weir:events/handler@0.2.0`", "0.1.x"]);
}

#[test]
fn load_newer_patch() {
    check(LOAD_NEWER_PATCH, &settings(), "done", None);
}

#[test]
fn load_wrong_type() {
    let rig = Rig::new();
    let loaded = rig.load(LOAD_WRONG_TYPE, &settings()).unwrap();
    let error = rig.probe(&loaded).unwrap_err();
    assert!(matches!(&error, LoadError::Unusable(text) if text.starts_with("exports `handle` with another type")), "{error:?}");
    drop(loaded);
    rig.assert_serves();
}

#[test]
fn load_unknown_import() {
    let error = refused(LOAD_UNKNOWN_IMPORT);
    let LoadError::Imports(lines) = &error else { panic!("{error:?}") };
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0], "imports `acme:orders/prices@1.0.0`, which Weir does not have");
    assert!(lines[1].contains("`wasi:clocks/monotonic-clock@0.3.0`") && lines[1].contains("0.2.0 to 0.2.12"), "{lines:?}");
    assert!(lines[2].contains("`wasi:keyvalue/store@0.2.0-draft2`") && lines[2].contains("keyvalue = [{ bucket = "), "{lines:?}");
}

#[test]
fn load_wrong_import_type() {
    unusable(LOAD_WRONG_IMPORT_TYPE, &["does not fit what Weir offers", "wasi:cli/exit"]);
}

#[test]
fn load_email() {
    let error = refused(LOAD_EMAIL).to_string();
    assert!(error.contains("`weir:events/email@0.1.0`") && error.contains("not granted"), "{error}");
    assert!(error.contains("[handler.guest.grants]: email = {"), "{error}");
    check(LOAD_EMAIL, &settings().mail(Relay::File("outbox".into())), "done", None);
}

#[test]
fn load_publish() {
    let error = refused(LOAD_PUBLISH).to_string();
    assert!(error.contains("`weir:events/publisher@0.1.0`") && error.contains("not granted"), "{error}");
    assert!(error.contains(r#"[handler.guest.grants]: publish = ["QUEUE"]"#), "{error}");
    check(LOAD_PUBLISH, &settings().publish(&["events"]), "done", None);
}

#[test]
fn load_three_memories() {
    unusable(LOAD_THREE_MEMORIES, &["2", "memories"]);
}

#[test]
fn load_five_tables() {
    unusable(LOAD_FIVE_TABLES, &["4", "tables"]);
}

#[test]
fn load_many_instances() {
    unusable(LOAD_MANY_INSTANCES, &["32", "instances"]);
}

#[test]
fn load_large_table() {
    unusable(LOAD_LARGE_TABLE, &["table", "100000"]);
}

#[test]
fn load_large_memory() {
    unusable(LOAD_LARGE_MEMORY, &["memory"]);
}

#[test]
fn load_shared_memory() {
    unusable(LOAD_SHARED_MEMORY, &["can't be compiled", "threads"]);
}

/// What the self-test of a new version comes to.
fn self_test(settings: &Settings) -> Result<(), LoadError> {
    let rig = Rig::new();
    let mut settings = settings.clone();
    settings.relay = Some(Relay::File(rig.folder.path().join("outbox")));
    let loaded = rig.load(LOAD_SELF_TEST, &settings).unwrap();
    let result = rig.probe(&loaded);
    assert!(!rig.folder.path().join("outbox").exists(), "no mail leaves while a version is probed");
    assert_eq!(rig.run(&loaded).outcome, Outcome::Done);
    drop(loaded);
    rig.assert_serves();
    result
}

#[test]
fn load_self_test() {
    let with = |how: &str| self_test(&settings().with("self-test", how));
    assert_eq!(with("ok"), Ok(()));
    assert_eq!(with("error"), Err(LoadError::SelfTest("no rules".to_owned())));
    let failed = |how: &str| match with(how) {
        Err(LoadError::SelfTest(text)) => text,
        other => panic!("{how}: {other:?}"),
    };
    assert!(failed("panic").contains("no rules at all"), "{}", failed("panic"));
    assert!(failed("mail").starts_with("denied: "), "{}", failed("mail"));
    assert!(failed("loop").contains("fuel"), "{}", failed("loop"));
    let begun = Instant::now();
    let long = Settings::limits(|limits| (limits.fuel, limits.deadline) = (10_000_000_000, Duration::from_millis(200)));
    let error = self_test(&long.with("self-test", "loop")).unwrap_err();
    assert!(error.to_string().contains("deadline") || error.to_string().contains("longer than"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

/// The probe is under the handler's own limits.
#[test]
fn a_probe_has_the_handlers_limits() {
    let rig = Rig::new();
    let refused = |guest: &str, settings: &Settings| rig.probe(&rig.load(guest, settings).unwrap()).unwrap_err().to_string();
    let text = refused(LIMIT_MEMORY_INITIAL, &settings());
    assert!(text.contains("exceeds memory limits"), "{text}");
    let text = refused(OUTCOME_START_TRAP, &settings());
    assert!(text.contains("unreachable"), "{text}");
    let short = Settings::limits(|limits| (limits.fuel, limits.deadline) = (10_000_000_000, Duration::from_millis(100)));
    let text = refused(OUTCOME_START_LOOP, &short);
    assert!(text.contains("deadline"), "{text}");
    rig.assert_serves();
}

//! Every example as its README tells: built, started, its event published, and what the README promises seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use weir_tests::server::Site;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn examples() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("Cargo.toml").exists());
    folders.sort();
    folders
}

/// What README.md says that the log says, in backticks after `log says`.
fn promised(readme: &str) -> Vec<&str> {
    readme.split("log says `").skip(1).filter_map(|rest| rest.split_once('`')).map(|(text, _)| text).collect()
}

#[test]
fn every_example_does_what_its_readme_says() {
    let examples = examples();
    assert!(examples.len() >= 5, "{examples:?}");
    for (at, folder) in examples.iter().enumerate() {
        let folder_name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let name = folder_name.strip_prefix(&format!("{}-", at + 1)).expect("examples are numbered in reading order").to_owned();
        let site = Site::new("");
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        for command in ["weir build", "weir serve -c", "weir publish events --stdin -c"] {
            assert!(readme.contains(command), "{folder_name}: the README says how it is run: {command}");
        }
        // Built where the workspace is, run elsewhere: nothing that a run leaves gets into the checkout.
        let built = site.run(&["build", &folder.to_string_lossy()]).ending(0).stdout;
        assert_eq!(Path::new(built.trim()), folder.join(format!("{name}.wasm")), "the path is printed");
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            fs::copy(&entry, site.path(&entry.file_name().unwrap().to_string_lossy())).unwrap();
        }
        if readme.contains("weir test ") {
            let _ = site.run(&["test"]).ending(0);
        }
        let server = site.start();
        let event = fs::read_to_string(folder.join("event.json")).unwrap();
        let ran = site.run_with(&["publish", "events", "--stdin"], &event).ending(0);
        assert_eq!(ran.stdout, "accepted 1\n", "{folder_name}");
        server.ended(1);
        assert_eq!(server.dead().len(), 0, "{folder_name}: {:?}", server.dead());
        for text in promised(&readme) {
            server.eventually(&format!("{folder_name}: the log says `{text}`"), |server| !server.log().with(text).is_empty());
        }
        let mails = fs::read_dir(site.path("outbox")).map_or(0, Iterator::count);
        assert_eq!(mails, usize::from(readme.contains("outbox/")), "{folder_name}");
        assert!(mails > 0 || !promised(&readme).is_empty(), "{folder_name}: the README promises nothing");
    }
}

#[test]
fn a_new_project_does_what_its_readme_says() {
    let site = Site::new("");
    let _ = site.run(&["new", "demo"]).ending(0);
    let readme = fs::read_to_string(site.path("demo/README.md")).unwrap();
    for typed in ["weir build", "weir serve", "weir publish events --stdin < event.json", "The mail lies in `outbox/`."] {
        assert!(readme.contains(typed), "the README says: {typed}");
    }
    // The versions that this repository builds with, so that what a registry has today decides nothing here; and their compiled code
    // is kept between runs. This test is `TARGET/PROFILE/deps/NAME`.
    fs::copy(root().join("Cargo.lock"), site.path("demo/Cargo.lock")).unwrap();
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap().join("new");
    let built = site.command(&["build", "demo"]).env("CARGO_TARGET_DIR", &target).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_eq!(String::from_utf8(built.stdout).unwrap(), "demo/demo.wasm\n");
    // The project stands in another folder each time: what was compiled of itself is of no use any more.
    let mut clean = Command::new(env!("CARGO"));
    clean.args(["clean", "--quiet", "--release", "--target", "wasm32-wasip2", "-p", "demo", "-p", "weir-sdk", "--target-dir"]);
    assert!(clean.arg(&target).current_dir(site.path("demo")).status().unwrap().success());

    let config = ["-c", "demo/weir.toml"];
    assert!(readme.contains("    weir test "));
    let tested = site.run(&["test", "demo"]).ending(0);
    assert!(tested.stdout.contains("2 passed, 0 failed"), "{tested:?}");
    // Any free port instead of the default one: a server may run on this machine.
    let server = site.start_typed(&[&config[..], &["--set", "server.listen=127.0.0.1:0"]].concat());
    let event = fs::read_to_string(site.path("demo/event.json")).unwrap();
    let ran = site.run_with(&[&["publish", "events", "--stdin"], &config[..]].concat(), &event).ending(0);
    assert_eq!(ran.stdout, "accepted 1\n");
    server.ended(1);
    server.eventually("the log says so", |server| server.log().says("welcomed Ann"));
    let mails: Vec<_> = fs::read_dir(site.path("demo/outbox")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [mail] = mails.as_slice() else { panic!("{mails:?}") };
    let mail = fs::read_to_string(mail).unwrap();
    for line in ["To: Ann <ann@example.com>", "Subject: Welcome", "From: demo <noreply@example.com>", "Good to have you, Ann."] {
        assert!(mail.contains(line), "no `{line}` in {mail}");
    }
    assert_eq!(server.dead().len(), 0);
}

#[test]
fn a_folder_without_a_project_is_not_built() {
    let site = Site::new("");
    let ran = site.run(&["build"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains("no Cargo.toml"), "{ran:?}");
}

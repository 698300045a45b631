//! The file itself, and what the process brings along.

use std::ffi::OsString;
use std::path::Path;

use super::super::{Config, Problems, Secret, Surroundings, load, load_in};
use super::{BASE, good};

fn load_from(folder: &Path, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Config, Problems> {
    load_in(Path::new("weir.toml"), &[], &Surroundings { env, folder: folder.to_owned(), cores: 100 })
}

#[test]
fn a_file_is_read_and_its_folder_is_where_paths_begin() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weir.toml"), BASE).unwrap();
    let config = load_from(folder.path(), &|_| None).unwrap();
    assert_eq!(config.file, folder.path().join("weir.toml"));
    assert_eq!(config.server.data, folder.path().join(".weir"));
    assert_eq!(config.handlers["notify"].component, folder.path().join("notify.wasm"));
    assert_eq!(config.handlers["notify"].concurrency, 256, "4 per core, lowered to the ceiling");
    // The process's own surroundings do as well.
    assert_eq!(load(&folder.path().join("weir.toml"), &[]).unwrap().queues.len(), 1);
}

#[test]
fn the_token_comes_from_the_environment_where_none_is_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weir.toml"), "[server]\nlisten = '0.0.0.0:0'").unwrap();
    let token = |value: &'static str| {
        let env = move |name: &str| (name == "WEIR_TOKEN").then(|| value.into());
        load_from(folder.path(), &env).map(|config| config.server.token).map_err(|problems| problems.to_string())
    };
    assert_eq!(token("t0ken"), Ok(Some(Secret("t0ken".to_owned()))));
    assert!(token("").unwrap_err().contains("there is no token"));
    let error = token("two words").unwrap_err();
    assert!(error.contains("environment variable `WEIR_TOKEN` is not a token") && !error.contains("two words"), "{error}");
    assert!(!format!("{:?}", good("[server]\ntoken = 's3cr3t'")).contains("s3cr3t"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.toml");
    let told = || load_from(folder.path(), &|_| None).unwrap_err().to_string();
    insta::assert_snapshot!(told(), @r###"
    error: `weir.toml` does not exist
    --> weir.toml
     = note: expected a weir.toml in this folder, or another one named with `-c FILE`

    1 error in the configuration
    "###);
    std::fs::write(&file, b"[server]\nname = '\xff'").unwrap();
    assert!(told().contains("`weir.toml` is not UTF-8 in line 2"), "{}", told());
    std::fs::write(&file, " ".repeat(2 << 20)).unwrap();
    assert!(told().contains("`weir.toml` is too large to be a configuration"), "{}", told());
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(told().contains("`weir.toml` cannot be read"), "{}", told());
}

#[test]
fn many_problems_are_bounded() {
    let toml: String = (0..1_000).map(|number| format!("x{number} = {}\n", "y".len())).collect();
    let problems = super::read_with(&toml, &[]).unwrap_err();
    assert_eq!(problems.iter().count(), 100);
    assert!(problems.to_string().ends_with("1000 errors in the configuration (100 shown)"));
    let long = format!("{} = 5", "x".repeat(10_000));
    assert!(super::read_with(&long, &[]).unwrap_err().to_string().contains("1:1"));
}

#[test]
fn what_was_put_in_is_not_shown() {
    let toml =
        format!("{BASE}[handler.notify.grants.email]\nrelay = '${{PASSWORD}}'\nfrom = '${{TOKEN}}'\nto = ['${{PASSWORD:-x}}']");
    let problems = super::read_with(&toml, &[]).unwrap_err();
    let told = format!("{problems}{}", serde_json::to_string(&problems.iter().collect::<Vec<_>>()).unwrap());
    assert!(!told.contains("hunter2") && !told.contains("s3cr3t"), "{told}");
    assert!(told.contains("what was put in for `${PASSWORD}` is not shown"), "{told}");
    assert_eq!(problems.iter().count(), 3);
}

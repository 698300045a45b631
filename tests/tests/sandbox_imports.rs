//! What a guest may import: ambient interfaces are there and give nothing, configuration and log are its own, and what is denied is said
//! once, with its import.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::ErrorKind;
use std::net::TcpListener;

use weir_runtime::outcome::Outcome;
use weir_runtime::sandbox::inspect::Inspection;
use weir_tests::assert_test_exists;
use weir_tests::guests::rig::{Rig, Settings, check};
use weir_tests::guests::*;

weir_tests::foreach_import!(assert_test_exists);

fn settings() -> Settings {
    Settings::default()
}

/// What a guest that ends well wrote.
fn says(guest: &str, settings: &Settings) -> String {
    let rig = Rig::new();
    let report = rig.run(&rig.load(guest, settings).unwrap());
    assert_eq!(report.outcome, Outcome::Done, "{report:?}");
    report.log
}

fn inspection(guest: &str) -> Inspection {
    Rig::new().sandbox.read(guest.as_ref()).unwrap().1
}

/// A port of this machine at which somebody listens, and whether anybody came.
fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn nobody_came(listener: &TcpListener) -> bool {
    listener.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn import_ambient() {
    let imports: Vec<_> =
        inspection(IMPORT_AMBIENT).imports.into_iter().map(|import| (import.name, import.class.name())).collect();
    for interface in [
        "wasi:sockets/tcp@",
        "wasi:sockets/udp@",
        "wasi:sockets/ip-name-lookup@",
        "wasi:filesystem/types@",
        "wasi:filesystem/preopens@",
        "wasi:http/types@",
        "wasi:http/outgoing-handler@",
        "wasi:cli/environment@",
        "wasi:cli/stdin@",
        "wasi:clocks/monotonic-clock@",
        "wasi:clocks/wall-clock@",
        "wasi:random/random@",
        "wasi:io/streams@",
    ] {
        let found = imports.iter().find(|(name, _)| name.starts_with(interface));
        assert_eq!(found.map(|(_, class)| *class), Some("ambient"), "{interface}: {imports:?}");
    }
    let report = check(IMPORT_AMBIENT, &settings(), "done", None);
    assert_eq!(report.log, "", "what is not used is not said");
}

#[test]
fn import_sockets() {
    let listener = listener();
    let address = listener.local_addr().unwrap().to_string();
    let log = says(IMPORT_SOCKETS, &settings().with("address", &address));
    for line in
        ["connect: Err(PermissionDenied)", "listen: Err(PermissionDenied)", "udp: Err(PermissionDenied)", "name: Err(\"no\")"]
    {
        assert!(log.lines().any(|found| found == line), "{line}: {log}");
    }
    for import in ["wasi:sockets/tcp-create-socket", "wasi:sockets/udp-create-socket", "wasi:sockets/ip-name-lookup"] {
        let lines: Vec<_> = log.lines().filter(|line| line.starts_with(&format!("weir: denied: {import} ("))).collect();
        assert_eq!(lines.len(), 1, "{import}: {log}");
    }
    assert!(nobody_came(&listener));
}

#[test]
fn import_http() {
    let listener = listener();
    let address = listener.local_addr().unwrap().to_string();
    let log = says(IMPORT_HTTP, &settings().with("address", &address));
    assert_eq!(log.matches("HttpRequestDenied").count(), 2, "{log}");
    let denied: Vec<_> = log.lines().filter(|line| line.starts_with("weir: denied: ")).collect();
    assert_eq!(denied.len(), 1, "{log}");
    assert!(denied[0].contains("wasi:http") && denied[0].contains(&address) && denied[0].contains("grant `http`"), "{log}");
    assert!(nobody_came(&listener));
}

#[test]
fn import_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("written");
    let log = says(IMPORT_FILES, &settings().with("file", file.to_str().unwrap()));
    assert_eq!(
        log,
        "read: Err(\"no\")\nrelative: Err(\"no\")\nup: Err(\"no\")\nlist: Err(\"no\")\nwrite: Err(\"no\")\npreopens: 0\n"
    );
    assert!(!file.exists());
}

#[test]
fn import_environment() {
    // This process has a good many of both.
    assert!(std::env::vars().count() > 0 && std::env::args().count() > 0);
    let log = says(IMPORT_ENVIRONMENT, &settings());
    let expected = "variables: 0\narguments: 0\nfolder: None\nstdin: Ok(0)\nterminals: [false, false, false]\n";
    assert_eq!(log, expected);
}

#[test]
fn import_clocks() {
    let log = says(IMPORT_CLOCKS, &settings());
    assert!(log.contains("slept: true\n") && log.contains("random: 65536 65536 true\n"), "{log}");
    let seconds: u64 = log.lines().find_map(|line| line.strip_prefix("seconds: ")).unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(seconds) < 60, "{seconds}");
}

#[test]
fn import_logging() {
    let levels = ["trace", "debug", "info", "warn", "error", "critical"];
    let expected: String = levels.iter().map(|level| format!("{level}: orders: counted\n")).collect();
    assert_eq!(says(IMPORT_LOGGING, &settings()), expected + "info: no context\n");
}

/// One handler's values, and none of another's, in the order of weir.toml.
fn check_config(guest: &str, version: &str) {
    let name = format!("wasi:config/store@{version}");
    assert!(inspection(guest).imports.iter().any(|import| import.name == name), "{name}");
    let log = says(guest, &settings().with("name", "größe").with("text", "two\nlines"));
    let all = r#"Ok([("name", "größe"), ("text", "two\nlines")])"#;
    assert_eq!(log, format!("Ok(Some(\"größe\")) Ok(None)\n{all}\n"));
    assert_eq!(says(guest, &settings()), "Ok(None) Ok(None)\nOk([])\n");
}

#[test]
fn import_config_draft() {
    check_config(IMPORT_CONFIG_DRAFT, "0.2.0-draft");
}

#[test]
fn import_config_draft_2024_09_27() {
    check_config(IMPORT_CONFIG_DRAFT_2024_09_27, "0.2.0-draft-2024-09-27");
}

#[test]
fn import_config_rc_1() {
    check_config(IMPORT_CONFIG_RC_1, "0.2.0-rc.1");
}

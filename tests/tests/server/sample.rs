//! The sample that `make run` serves, in a copy of the checkout: every event of it becomes a mail, and a person reads to whom.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use weir_tests::server::Site;

fn copy(from: &Path, site: &Site, file: &str) {
    site.write(file, &fs::read(from.join(file)).unwrap());
}

#[test]
fn the_sample_sends_its_mails_and_says_so() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // Any free port instead of the default one: a server may run on this machine.
    let sample = fs::read_to_string(root.join("weir.toml")).unwrap();
    let site = Site::new(&sample);
    for file in ["handlers/email-notifier/email-rules.toml", "handlers/email-notifier/events.ndjson", ".ci/sample"] {
        copy(root, &site, file);
    }
    let built = site.run(&["build", &root.join("handlers/email-notifier").to_string_lossy()]).ending(0).stdout;
    site.write("handlers/email-notifier.wasm", &fs::read(built.trim()).unwrap());
    let events = fs::read_to_string(root.join("handlers/email-notifier/events.ndjson")).unwrap().lines().count();
    assert_eq!(events, 4);

    // Its rules do what their cases say.
    copy(root, &site, "handlers/email-notifier/email-rules.test.toml");
    let tested = site.run(&["test", "handlers/email-notifier"]);
    assert!(tested.code == 0 && tested.stdout.contains(" passed, 0 failed"), "{}\n{}", tested.stdout, tested.stderr);

    let serve = site.command(&["serve"]);
    let mut script = std::process::Command::new("bash");
    script.arg(".ci/sample").env("WEIR", serve.get_program()).env("NO_COLOR", "1");
    let mut process = script.current_dir(site.path("")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut shown = Vec::new();
    for line in BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap) {
        let last = line.starts_with(&format!("{events} mails."));
        shown.push(line);
        if last {
            break;
        }
    }
    let text = shown.join("\n");
    // The script became the server.
    kill_process(Pid::from_raw(process.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0), "{text}");
    assert_eq!(shown.iter().filter(|line| line.starts_with("outbox/")).count(), events, "{text}");
    for start in ["    to      ", "    subject "] {
        let values: Vec<_> = shown.iter().filter_map(|line| line.strip_prefix(start)).collect();
        assert_eq!(values.len(), events, "{text}");
        assert!(values.iter().all(|value| !value.trim().is_empty() && !value.contains("=?")), "{text}");
    }
    for line in shown.iter().filter(|line| line.starts_with("outbox/")) {
        let mail = fs::read_to_string(site.path(line)).unwrap();
        assert!(mail.contains("X-Weir-Recipients: ") && mail.contains("\r\n\r\n"), "{mail}");
    }
}

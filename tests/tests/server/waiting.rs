//! The e-mail notifier's *when* with the real binary: rules edited live, a server killed in the middle of a digest, a reminder and its
//! answer. Days and nights are simulated elsewhere; here a digest takes seconds.

use std::path::Path;

use serde_json::{Value, json};
use weir_tests::server::{Server, Site};

const CONFIG: &str = r#"
[queue.events]
url = "disk:./data/events"
[handler.notifier]
component = "notifier.wasm"
queue = "events"
config.rules = { file = "rules.toml" }
[handler.notifier.grants]
email    = { relay = "file:./outbox", from = "QA <noreply@example.com>", to = ["*@example.com"] }
keyvalue = [{ bucket = "digest" }]
publish  = ["self"]
"#;

fn rule(name: &str, keys: &str, subject: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nto = \"data.owner\"\n{keys}\n[rule.mail.en]\nsubject = \"{subject}\"\ntext = \"-\"\n")
}

fn event(kind: &str, id: &str, subject: &str) -> Value {
    let data = json!({ "owner": "ann@example.com" });
    json!({ "specversion": "1.0", "id": id, "source": "/test", "type": kind, "subject": subject, "data": data })
}

/// The words of all subjects, sorted.
fn words(site: &Site) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(site.path("outbox")) else { return Vec::new() };
    let files = folder.map(|file| file.unwrap().path()).filter(|file| file.extension().is_some_and(|end| end == "eml"));
    let mails: Vec<String> = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let subject = |mail: &String| mail.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned();
    let mut words: Vec<String> =
        mails.iter().flat_map(|mail| subject(mail).split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
    words.sort();
    words
}

fn edit(site: &Site, server: &Server, rules: &str) {
    let reloads = |server: &Server| server.metrics().sum("weir_reloads_total", &[("result", "succeeded")]);
    let before = reloads(server);
    site.replace("rules.toml", rules.as_bytes());
    server.eventually("the rules are taken up", |server| reloads(server) > before);
}

#[test]
fn mails_wait_as_the_rules_say_over_a_kill() {
    let site = Site::new(CONFIG);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("handlers/email-notifier");
    let built = site.run(&["build", &folder.to_string_lossy()]).ending(0).stdout;
    site.write("notifier.wasm", &std::fs::read(built.trim()).unwrap());
    let answered = "type = \"answered\"";
    site.write("rules.toml", rule("now", answered, "{{ event.id }}").as_bytes());
    let server = site.start();
    assert_eq!(server.publish("events", &event("answered", "a", "q-1")).status, 202);
    server.eventually("a mail at once", |_| words(&site) == ["a"]);

    let gathered = "{% for item in events %}{{ item.event.id }}{% if not loop.last %} {% endif %}{% endfor %}";
    edit(&site, &server, &rule("daily", &format!("{answered}\nwhen = \"digest 5s by data.owner\""), gathered));
    let many: Vec<Value> = ["b", "c", "d"].map(|id| event("answered", id, "q-1")).into();
    assert_eq!(server.publish_batch("events", &many).status, 202);
    let _ = server.kill9_unasked();
    let server = site.start();
    server.eventually("everything is mailed once", |_| words(&site).len() >= 4);
    assert_eq!(words(&site), ["a", "b", "c", "d"]);

    let reminder = "type = \"asked\"\nwhen = \"after 3s\"\nunless = \"answered\"";
    edit(&site, &server, &rule("reminder", reminder, "{{ event.id }}"));
    let asked = [event("asked", "e", "q-2"), event("asked", "f", "q-3"), event("answered", "g", "q-2")];
    assert_eq!(server.publish_batch("events", &asked).status, 202);
    let _ = server.logged("rule `reminder`: not sent, a later event made it needless", 1);
    server.eventually("who did not answer is reminded", |_| words(&site).len() >= 5);
    assert_eq!(words(&site), ["a", "b", "c", "d", "f"]);
    assert_eq!(server.dead(), Vec::<Value>::new());
}

//! What `handlers/email-notifier/README.md` tells a user to do: from one mail for each answer to one digest a day, never at night, and a
//! reminder that an answer stops, by edits of the rules of a server that runs. The rules are the page's own.

use std::path::Path;

use serde_json::{Value, json};

use crate::world::{Place, World, event};

const CONFIG: &str = r#"
[handler.notifier]
component = "notifier.wasm"
queue = "events"
config.rules = { file = "rules.toml" }
grants.publish = ["self"]
grants.keyvalue = [{ bucket = "digest" }]
grants.email = { relay = "file:{outbox}", from = "w@example.com", to = ["*@example.com"] }
"#;

/// The blocks of TOML of the page's section.
fn blocks() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("handlers/email-notifier/README.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("### From one mail an answer to one digest a day\n").unwrap();
    let section = section.split("\n### ").next().unwrap();
    section.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

fn about(questionnaire: &str, kind: &str, id: &str, data: Value) -> Value {
    let mut event = event(kind, id, data);
    event["subject"] = json!(questionnaire);
    event
}

fn answered(questionnaire: &str, id: &str, owner: &str, zone: &str) -> Value {
    let owner = json!({ "email": owner, "zone": zone });
    about(questionnaire, "qa.questionnaire.answered", id, json!({ "respondent": "Tom", "owner": owner }))
}

#[test]
fn the_rules_grow_as_the_page_says() {
    let [single, daily, reminder]: [String; 3] = blocks().try_into().unwrap();
    let files: [(&str, &[u8]); 2] = [("notifier.wasm", &crate::rules::notifier()), ("rules.toml", single.as_bytes())];
    let mut world = World::start(Place::Disk, "2026-06-01T06:00:00Z", CONFIG, &files);
    let at = |text: &str| text.parse().unwrap();

    // A mail for each answer, at any hour.
    world.go(at("2026-06-01T20:30:00Z"));
    world.expect(at("2026-06-01T20:30:00Z"), "ann@example.com: Tom answered", None);
    world.publish(&answered("q-1", "a1", "ann@example.com", "Europe/Berlin"));

    // One a day at nine, where the owner is.
    world.edit("rules.toml", &daily);
    world.publish(&answered("q-1", "a2", "ann@example.com", "Europe/Berlin"));
    world.publish(&answered("q-2", "a3", "ann@example.com", "Europe/Berlin"));
    world.publish(&answered("q-3", "b1", "bob@example.com", "America/New_York"));
    world.expect(at("2026-06-02T07:00:00Z"), "ann@example.com: 2 answers", None);
    world.expect(at("2026-06-02T13:00:00Z"), "bob@example.com: 1 answers", None);
    world.go(at("2026-06-02T20:30:00Z"));

    // Who does not answer is reminded, and not at night.
    world.edit("rules.toml", &format!("{daily}\n{reminder}"));
    for (questionnaire, id) in [("q-8", "s1"), ("q-9", "s2")] {
        let respondent = format!("{questionnaire}@example.com");
        world.publish(&about(questionnaire, "qa.questionnaire.sent", id, json!({ "respondent": respondent })));
    }
    world.expect(at("2026-06-06T06:00:00Z"), "q-9@example.com: Please answer q-9", None);
    world.go(at("2026-06-04T10:00:00Z"));
    world.publish(&answered("q-8", "a4", "ann@example.com", "Europe/Berlin"));
    world.expect(at("2026-06-05T07:00:00Z"), "ann@example.com: 1 answers", None);
    world.go(at("2026-06-14T00:00:00Z"));
    world.end();
}

//! Rules: what they can say, and what is said about mistakes in them.

use serde_json::json;

use super::{check, host, mail, notify, rejected, rule, run, testing};

const MAIL: &str = "subject = \"s\"\ntext = \"t\"";

#[test]
fn mistakes_are_named() {
    for (rules, expected) in [
        ("[[rule]", "line 1: not TOML:"),
        ("[[rule]]\ntype = \"t\"", "rule 1 (line 1): `name`: is missing (expected a text)"),
        ("rules = []", "line 1: `rules`: unknown key (known: `default-locale`, `layouts`, `rule`)"),
        (&rule("to = \"a@b\"\nsbject = \"x\"", MAIL), "rule `r` (line 5): `sbject`: unknown key (known: `name`, `type`, `to`"),
        (
            &rule("to = \"a@b\"\nwhen = \"07:00\"", MAIL),
            "rule `r` (line 5): `when`: `07:00`: not known (expected `now`, `after 10m`, `at 09:00 Europe/Berlin`, `digest 1h by ",
        ),
        (
            &rule("to = \"a@b\"\nwhen = \"at 07:00 Berlin\"", MAIL),
            "rule `r` (line 5): `when`: `at 07:00 Berlin`: `Berlin` is no time zone (expected a name of the IANA database",
        ),
        (
            &rule("to = \"a@b\"\nquiet = \"22:00-08:00\"", MAIL),
            "rule `r` (line 5): `quiet`: `22:00-08:00`: the time zone is missing (expected such as `Europe/Berlin`)",
        ),
        (&rule("to = \"a@b\"\nquiet = 22", MAIL), "rule `r` (line 5): `quiet`: is a number, expected a text"),
        (
            &rule("to = \"a@b\"\nunless = \"x\"", MAIL),
            "rule `r` (line 5): `unless`: is for mails that wait (expected `when` beside it, such as `after 3d`)",
        ),
        (
            &rule("to = \"a@b\"\nwhen = \"after 3d\"\nunless = []", MAIL),
            "rule `r` (line 6): `unless`: is empty (expected a type, or a list of types)",
        ),
        (&rule("", MAIL), "rule `r` (line 1): `to`: nobody is written to (expected a recipient in `to`, `cc` or `bcc`)"),
        (
            &rule("to = \"nobody\"", MAIL),
            "rule `r` (line 4): `to`: `nobody` is not one address (expected such as `ann@example.com`)",
        ),
        (&rule("to = \"data..x\"", MAIL), "rule `r` (line 4): `to`: `data..x` is no path (expected"),
        (&rule("to = 5", MAIL), "rule `r` (line 4): `to`: a number is no recipient (expected"),
        (&rule("to = { mail = \"a@b\" }", MAIL), "rule `r` (line 4): `to.mail`: unknown key (known: `email`, `name`)"),
        (&rule("to = \"a@b\"\nlocale = \"locale\"", MAIL), "rule `r` (line 5): `locale`: `locale` is no path"),
        (&rule("to = \"a@b\"\nlayout = \"x\"", MAIL), "rule `r` (line 5): `layout`: `x` is not defined (known: ``)"),
        (&rule("to = \"a@b\"\nseparate = \"yes\"", MAIL), "rule `r` (line 5): `separate`: is a text, expected true or false"),
        (
            &rule("to = \"a@b\"\none-click = true", MAIL),
            "rule `r` (line 5): `one-click`: is for `unsubscribe`, which is not given",
        ),
        (
            &rule("to = \"a@b\"\nheaders = { \"X Y\" = \"1\" }", MAIL),
            "rule `r` (line 5): `headers.X Y`: not the name of a header",
        ),
        (&rule("to = \"a@b\"", "text = \"t\""), "rule `r` (line 5): `mail.en.subject`: is missing"),
        (&rule("to = \"a@b\"", "subject = \"s\""), "rule `r` (line 5): `mail.en.text`: is missing, and so is `html`"),
        (
            "[[rule]]\nname = \"r\"\ntype = \"t\"\nto = \"a@b\"",
            "rule `r` (line 1): `mail`: is missing (expected a table for each locale",
        ),
    ] {
        let rules: &str = rules;
        let said = rejected(host(rules).self_test(check).result);
        assert!(said.starts_with(&format!("rules: {expected}")), "{said}");
        // An event is not lost over it either: it becomes a dead letter that says the same.
        let event = testing::event("t", json!({}));
        assert_eq!(rejected(host(rules).run(notify, event).result), said);
    }
}

#[test]
fn mistakes_in_templates_are_found_before_an_event() {
    let to = "to = \"a@b\"";
    for (rules, expected) in [
        (rule(to, "subject = \"{{ \"\ntext = \"t\""), "`mail.en.subject` line 1: syntax error:"),
        (rule(to, "subject = \"{{ name }}\"\ntext = \"t\""), "`mail.en.subject`: `name` is not known (known: `data`, `event`"),
        (
            rule(to, "subject = \"{{ data.x|mony }}\"\ntext = \"t\""),
            "`mail.en.subject` line 1: unknown filter: filter mony is unknown",
        ),
        (
            rule(to, "subject = \"s\"\nhtml = \"<p>\\n<p style='{{ data.x }}'>\""),
            "`mail.en.html` line 2: an expression in the attribute `style`",
        ),
        (
            rule(to, "subject = \"s\"\nhtml = \"{{ data.x|safe }}\""),
            "`mail.en.html` line 1: unknown filter: filter safe is unknown",
        ),
        (rule("to = \"a@b\"\nthread = \"{% if %}\"", MAIL), "`thread` line 1: syntax error:"),
        (rule("to = \"a@b\"\nheaders = { X-A = \"{{ x }}\" }", MAIL), "`headers.X-A`: `x` is not known"),
        (
            rule(to, "subject = \"{{ count }}\"\ntext = \"t\""),
            "`mail.en.subject`: `count` is for rules that gather (expected `when = \"digest …\"`, see README.md)",
        ),
    ] {
        let said = rejected(host(&rules).self_test(check).result);
        assert!(said.starts_with(&format!("rules: rule `r`: {expected}")), "{said}");
    }
    let twice = rule(to, MAIL).repeat(2);
    let said = "rules: rule `r` (line 8): two rules have this name (it tells their mails apart)";
    assert_eq!(rejected(host(&twice).self_test(check).result), said);
    let missing = rejected(testing::Host::new().self_test(check).result);
    assert_eq!(missing, "config key `rules` is not set (add it to the handler's `config` in weir.toml)");
}

#[test]
fn recipients_come_from_everywhere() {
    let keys = concat!(
        "to = [\"QA <qa@example.com>\", \"data.owner\", \"data.watchers\", { email = \"data.boss.email?\" }]\n",
        "cc = \"data.team.0\"\nbcc = { email = \"audit@example.com\", name = \"Audit\" }\nreply-to = \"event.subject\"",
    );
    let data = json!({
        "owner": { "email": "ann@example.com", "name": "Lee, Ann" },
        "watchers": ["tom@example.com", { "email": "eve@example.com" }, "ANN@example.com"],
        "team": [{ "email": "team@example.com" }],
    });
    let mut event = testing::event("t", data);
    event.subject = Some("re@example.com".to_owned());
    let message = mail(host(&rule(keys, MAIL)).run(notify, event));
    assert_eq!(message.to, ["QA <qa@example.com>", "\"Lee, Ann\" <ann@example.com>", "tom@example.com", "eve@example.com"]);
    assert_eq!(message.cc, ["team@example.com"]);
    assert_eq!(message.bcc, ["Audit <audit@example.com>"]);
    assert_eq!(message.reply_to, ["re@example.com"]);

    let run = run(&rule("to = \"data.owner?\"", MAIL), "t", &json!({}));
    assert_eq!((run.result, run.mails.len()), (Ok(()), 0), "optional and missing: nobody is written to");
}

#[test]
fn separate_mails_greet_each() {
    let rules = rule("to = \"data.to\"\nseparate = true", "subject = \"Hi {{ to.name }}\"\ntext = \"t\"");
    let to = json!([{ "email": "a@example.com", "name": "A" }, { "email": "b@example.com", "name": "B" }]);
    let run = run(&rules, "t", &json!({ "to": to }));
    assert_eq!(run.result, Ok(()));
    let seen: Vec<_> = run.mails.iter().map(|mail| (mail.to[0].as_str(), mail.subject.as_str(), mail.key.as_deref())).collect();
    assert_eq!(
        seen,
        [("A <a@example.com>", "Hi A", Some("r: a@example.com")), ("B <b@example.com>", "Hi B", Some("r: b@example.com")),]
    );
}

#[test]
fn several_rules_apply_and_one_failing_does_not_stop_the_others() {
    let one = |name: &str, kind: &str, subject: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\ntype = {kind}\nto = \"{name}@example.com\"\n[rule.mail.en]\nsubject = \"{subject}\"\ntext = \"t\"\n"
        )
    };
    let rules = [
        one("exact", "\"a.b\"", "s"),
        one("broken", "\"a.*\"", "{{ data.gone }}"),
        one("list", "[\"x\", \"a.b\"]", "s"),
        one("other", "\"a\"", "s"),
        one("all", "\"*\"", "s"),
    ];
    let run = run(&rules.concat(), "a.b", &json!({}));
    assert_eq!(rejected(run.result), "rule `broken`: `mail.en.subject` line 1: `data.gone` is missing");
    let to: Vec<_> = run.mails.iter().map(|mail| mail.to[0].as_str()).collect();
    assert_eq!(to, ["exact@example.com", "list@example.com", "all@example.com"]);
}

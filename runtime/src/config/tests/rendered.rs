//! How problems read, for people and for programs.

use super::{BASE, read_with};

fn rendered(toml: &str, overrides: &[&str]) -> String {
    read_with(toml, overrides).unwrap_err().to_string()
}

#[test]
fn an_unknown_key() {
    insta::assert_snapshot!(rendered(&format!("{BASE}[handler.notify.limits]\nfule = 5"), &[]), @r###"
    error: `handler.notify.limits.fule` is not a known key
     --> ../../etc/weir/weir.toml:8:1
      |
    8 | fule = 5
      | ^^^^ expected `fuel`
      |
      = help: did you mean `fuel`?
      = help: known here: `deadline`, `fuel`, `handles`, `memory`, `output`, `published`, `publishes`, `requests`, `response`, `tables`

    1 error in the configuration
    "###);
}

#[test]
fn a_key_of_a_later_version() {
    insta::assert_snapshot!(rendered(&format!("{BASE}digest = \"subject\""), &[]), @r###"
    error: `digest`: not in this version yet
     --> ../../etc/weir/weir.toml:7:1
      |
    7 | digest = "subject"
      | ^^^^^^ expected no `digest`: not in this version yet

    1 error in the configuration
    "###);
}

#[test]
fn a_limit_above_its_ceiling() {
    insta::assert_snapshot!(rendered(&format!("{BASE}[handler.notify.limits]\nmemory = \"512MiB\" # too much"), &[]), @r###"
    error: `handler.notify.limits.memory` is above its ceiling
     --> ../../etc/weir/weir.toml:8:10
      |
    8 | memory = "512MiB" # too much
      |          ^^^^^^^^ expected at most `256MiB`, which is `ceilings.memory`

    1 error in the configuration
    "###);
}

#[test]
fn a_missing_variable_beside_a_password() {
    let toml = format!(
        "{BASE}[handler.notify.grants.email]\nrelay = \"smtp://u:hunter2@${{RELAY}}:25\"\nfrom = \"a@x.com\"\nto = [\"*\"]"
    );
    insta::assert_snapshot!(rendered(&toml, &[]), @r###"
    error: `handler.notify.grants.email.relay`: environment variable `RELAY` is not set
     --> ../../etc/weir/weir.toml:8:27
      |
    8 | relay = "smtp://u:*******@${RELAY}:25"
      |                           ^^^^^^^^ expected `RELAY` in the environment, or a default: `${RELAY:-default}`

    1 error in the configuration
    "###);
}

#[test]
fn filters() {
    let handlers = [
        "filter = \"type LIKE 'qa.%' AN subject = 'a'\"",
        "filter = \"type = \\\"a\\\" OR LENGHT(subject) > 5\"",
        "filter = \"\"\"\ntype = 'a'\nOR NOT subject = 'b'\n\"\"\"",
        "filter = \"\"\"type = 'a' \\\n  AND AND subject = 'b'\"\"\"",
        "filter = \"source = 'https://${HOST}' AND\"",
    ];
    let tables = handlers.iter().enumerate();
    let tables = tables.map(|(at, filter)| format!("[handler.h{at}]\ncomponent = \"c\"\nqueue = \"events\"\n{filter}\n"));
    insta::assert_snapshot!(rendered(&format!("{BASE}{}", tables.collect::<String>()), &[]), @r###"
    error: `handler.h0.filter` is not a filter: `AN` is not expected here
      --> ../../etc/weir/weir.toml:10:28
       |
    10 | filter = "type LIKE 'qa.%' AN subject = 'a'"
       |                            ^^ expected an operator (`AND`, `OR`, `=`, `LIKE`, …) or the end of the expression

    error: `handler.h1.filter` is not a filter: there is no function `LENGHT` of one argument
      --> ../../etc/weir/weir.toml:14:27
       |
    14 | filter = "type = \"a\" OR LENGHT(subject) > 5"
       |                           ^^^^^^ expected `LENGTH`

    error: `handler.h2.filter` is not a filter: `NOT` is applied to `subject` alone, which is no Boolean
      --> ../../etc/weir/weir.toml:20:4
       |
    20 | OR NOT subject = 'b'
       |    ^^^^^^^^^^^ expected `NOT (…)` around the comparison, or `!=`, `NOT LIKE`, `NOT IN`

    error: `handler.h3.filter` is not a filter: `AND` is not expected here
      --> ../../etc/weir/weir.toml:25:10
       |
    25 | filter = """type = 'a' \
       |          ^^^^^^^^^^^^^^^ expected a value: an attribute, a literal, a function or `(`
       |
       = help: it is here in the expression:
               type = 'a' AND AND subject = 'b'
                              ^^^

    error: `handler.h4.filter` is not a filter: it does not parse
      --> ../../etc/weir/weir.toml:30:10
       |
    30 | filter = "source = 'https://${HOST}' AND"
       |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ expected a value: an attribute, a literal, a function or `(`
       |
       = help: it is at character 37 of the expression; what was put in for `${HOST}` is not shown

    5 errors in the configuration
    "###);
}

#[test]
fn several_in_the_order_of_the_file() {
    let toml = "[server]\nlisten = \"0.0.0.0:80\"\ngrace = 30\n[handler.h]\ncomponent = \"\"\nqueue = \"evnts\"\n[queue.events]\nurl = \"redis://:pw@h/0\"";
    insta::assert_snapshot!(rendered(toml, &["server.loaded=many"]), @r###"
    error: `server.listen` can be reached from other machines and there is no token
     --> ../../etc/weir/weir.toml:2:10
      |
    2 | listen = "0.0.0.0:80"
      |          ^^^^^^^^^^^^ expected a loopback address, or a `token`
      |
      = help: set `token = "${WEIR_TOKEN}"` in `[server]` and the variable in the environment

    error: `server.grace` is not a duration
     --> ../../etc/weir/weir.toml:3:9
      |
    3 | grace = 30
      |         ^^ expected a duration such as `250ms`, `10s`, `5m`, `1h` or `7d`
      |
      = help: a text stands in quotes

    error: `handler.h.component` is not the path of a component
     --> ../../etc/weir/weir.toml:5:13
      |
    5 | component = ""
      |             ^^ expected the path of a component such as `handlers/email-notifier.wasm`
      |
      = help: it is empty

    error: `handler.h.queue` names a queue that is not defined
     --> ../../etc/weir/weir.toml:6:9
      |
    6 | queue = "evnts"
      |         ^^^^^^^ expected a queue that is defined (known: `events`)
      |
      = help: did you mean `events`?

    error: `queue.events.url` is not a queue URL of this version
     --> ../../etc/weir/weir.toml:8:7
      |
    8 | url = "redis://:**@h/0"
      |       ^^^^^^^^^^^^^^^^^ expected a queue URL of this version such as `disk:./data/events` or `memory:`
      |
      = help: the stream is missing, as in `redis://127.0.0.1:6379/0?stream=orders`

    error: `server.loaded` is not a number
     --> --set:1:15
      |
    1 | server.loaded=many
      |               ^^^^ expected a number from 1 to 60000

    6 errors in the configuration
    "###);
}

#[test]
fn a_slip_of_syntax() {
    insta::assert_snapshot!(rendered("[server]\nlisten = \"127.0.0.1:0\ntoken = \"abc\n", &[]), @r###"
    error: this is no TOML: invalid basic string
     --> ../../etc/weir/weir.toml:2:22
      |
    2 | listen = "127.0.0.1:0
      |                      ^ expected `"`

    error: this is no TOML: invalid basic string
     --> ../../etc/weir/weir.toml:3:13
      |
    3 | token = "***
      |             ^ expected `"`

    2 errors in the configuration
    "###);
}

#[test]
fn for_programs() {
    let problems = read_with("[server]\ngrase = \"5s\"", &[]).unwrap_err();
    let problem = problems.iter().next().unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(problem).unwrap(), @r###"
    {
      "file": "../../etc/weir/weir.toml",
      "line": 2,
      "column": 1,
      "key": "server.grase",
      "message": "`server.grase` is not a known key",
      "found": "grase",
      "expected": "`grace`",
      "notes": [
        "did you mean `grace`?",
        "known here: `data`, `grace`, `group`, `hosts`, `instances`, `listen`, `loaded`, `mail-kept`, `max-event`, `name`, `publish-token`, `store`, `token`"
      ]
    }
    "###);
}

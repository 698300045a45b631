//! Events written by somebody who wants more than a mail.

use serde_json::{Value, json};

use super::{SHIPPED, mail, rejected, rule, run};

fn registered(name: &str, email: &str) -> Value {
    json!({ "email": email, "name": name, "locale": "en" })
}

#[test]
fn a_name_adds_no_header() {
    let mail = mail(run(SHIPPED, "user.registered", &registered("Ann\r\nBcc: all@example.com\u{202e}", "ann@example.com")));
    assert_eq!(mail.subject, "Welcome, Ann Bcc: all@example.com");
    assert_eq!(mail.to, ["\"Ann Bcc: all@example.com\" <ann@example.com>"]);
    assert!(mail.headers.is_empty());
}

#[test]
fn an_address_is_one_address() {
    for email in [
        "ann@example.com\r\nBcc: all@example.com",
        "ann@example.com, all@example.com",
        "ann@example.com;all@example.com",
        "Ann <ann@example.com>",
        "\"ann\"@example.com",
        "ann@exa mple.com",
        "ann@example.com@evil.example",
        "@example.com",
        "ann@",
        "ann@example..com",
        "(x)ann@example.com",
        "ann@[127.0.0.1]",
        "",
    ] {
        let run = run(SHIPPED, "user.registered", &registered("Ann", email));
        let reason = rejected(run.result);
        assert!(reason.starts_with("rule `welcome`: `to`: `data.email`: `") && reason.contains("is not one address"), "{reason}");
        assert!(!reason.contains(['\r', '\n']), "{reason}");
        assert!(run.mails.is_empty());
    }
}

#[test]
fn html_stays_text() {
    let attack = "<script>alert(1)</script>\"' onmouseover='x";
    let html = mail(run(SHIPPED, "user.registered", &registered(attack, "ann@example.com"))).html.unwrap();
    assert!(!html.contains("<script>") && !html.contains("' onmouseover"), "{html}");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onmouseover=&#39;x"), "{html}");
}

#[test]
fn template_syntax_from_an_event_is_text() {
    let html = mail(run(SHIPPED, "user.registered", &registered("{{ data.email }}{% if x %}", "ann@example.com"))).html.unwrap();
    assert!(html.contains("Welcome, {{ data.email }}{% if x %}"), "{html}");
}

#[test]
fn a_link_is_a_link() {
    let rules = rule(
        "to = \"a@example.com\"",
        "subject = \"s\"\nhtml = '<a href=\"{{ data.url }}\" title=\"{{ data.url }}\">{{ data.url }}</a>'",
    );
    for url in [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "\u{1}javascript:alert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "javascript&colon;alert(1):",
    ] {
        let reason = rejected(run(&rules, "t", &json!({ "url": url })).result);
        assert!(reason.starts_with("rule `r`: `mail.en.html` line 1: `data.url`: `"), "{reason}");
        assert!(reason.ends_with("` is not a link (expected one with http, https, mailto, tel)"), "{reason}");
    }
    let html = mail(run(&rules, "t", &json!({ "url": "https://x/?a=\"><script>&b=1" }))).html.unwrap();
    let escaped = "https://x/?a=&quot;&gt;&lt;script&gt;&amp;b=1";
    assert_eq!(html, format!("<a href=\"{escaped}\" title=\"{escaped}\">{escaped}</a>"));

    let rules = rule(
        "to = \"a@example.com\"",
        "subject = \"s\"\nhtml = '<a href=\"https://x/{{ data.a }}?q={{ data.b|urlencode }}\">y</a>'",
    );
    let html = mail(run(&rules, "t", &json!({ "a": "../\"?x", "b": "1&c=2" }))).html.unwrap();
    assert_eq!(html, "<a href=\"https://x/..%2F%22%3Fx?q=1%26c%3D2\">y</a>");
}

#[test]
fn headers_and_unsubscribe_keep_their_shape() {
    let keys = "to = \"data.to\"\nunsubscribe = \"https://x/u?id={{ data.id }}\"\none-click = true\nthread = \"{{ data.id }}\"\nheaders = { X-Order = \"o {{ data.id }}\" }";
    let message = mail(run(
        &rule(keys, "subject = \"s\"\ntext = \"t\""),
        "t",
        &json!({ "to": ["a@example.com"], "id": "1>,\r\nBcc: <b@c" }),
    ));
    let value = |name: &str| message.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(value("List-Unsubscribe"), Some("<https://x/u?id=1%3E%2C%0D%0ABcc%3A%20%3Cb%40c>"));
    assert_eq!(value("List-Unsubscribe-Post"), Some("List-Unsubscribe=One-Click"));
    assert_eq!(value("X-Order"), Some("o 1>, Bcc: <b@c"));
    assert!(value("References").unwrap().ends_with("@thread.weir.invalid>"));

    let keys = "to = \"data.to\"\nunsubscribe = \"{{ data.url }}\"";
    let rules = rule(keys, "subject = \"s\"\ntext = \"t\"");
    let reason = rejected(run(&rules, "t", &json!({ "to": "a@example.com", "url": "https://x/> <mailto:evil" })).result);
    assert!(reason.starts_with("rule `r`: `unsubscribe` line 1: `data.url`:"), "{reason}");
    let message = mail(run(&rules, "t", &json!({ "to": "a@example.com", "url": "https://x/?a=1&b=2" })));
    assert_eq!(message.headers, [("List-Unsubscribe".to_owned(), "<https://x/?a=1&b=2>".to_owned())]);
}

#[test]
fn long_texts_and_lists_are_bounded() {
    let message = mail(run(SHIPPED, "user.registered", &registered(&"x".repeat(5000), "ann@example.com")));
    assert!(message.subject.chars().count() <= 240);
    let many: Vec<String> = (0..101).map(|n| format!("u{n}@example.com")).collect();
    let reason = rejected(run(&rule("to = \"data.to\"", "subject = \"s\"\ntext = \"t\""), "t", &json!({ "to": many })).result);
    assert_eq!(reason, "rule `r`: `to`: 101 recipients (expected at most 100)");
}

//! The whole handler in `cargo test`: rules and events in, requests and answers out. The server's side is tested with the server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use weir_sdk::http::{Error, Request, Response};
use weir_sdk::testing::{self, Host, Run};
use weir_sdk::{Bytes, Event, reject, retry};

use crate::{check, notify};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const RULES: &str = r#"
    [[webhook]]
    name = "orders"
    type = ["order.*", "refund"]
    subject = "acme/*"
    url = "https://hooks.example.com/v1/{{ data.tenant }}?order={{ data.id }}"
    headers = { X-Tenant = "{{ data.tenant }}" }
"#;

fn host(rules: &str) -> Host {
    Host::new().config("rules", rules).config("key", KEY).http(|_| Ok(Response::status(204)))
}

fn order(data: Value) -> Event<Bytes> {
    Event { subject: Some("acme/7".to_owned()), ..testing::event("order.created", data) }
}

fn run(rules: &str, event: Event<Bytes>) -> Run {
    host(rules).run(notify, event)
}

fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// A rule for every event, with these lines.
fn rule(lines: &str) -> String {
    format!("[[webhook]]\nname = 'r'\ntype = '*'\nurl = 'https://h/x'\n{lines}")
}

#[test]
fn an_event_is_sent_signed() {
    let run = run(RULES, order(json!({ "tenant": "acme & co", "id": 7 })));
    assert_eq!(run.result, Ok(()));
    let [request] = run.requests.as_slice() else { panic!("{:?}", run.requests) };
    assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "https://hooks.example.com/v1/acme%20%26%20co?order=7"));
    assert_eq!(header(request, "content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!(header(request, "x-tenant"), "acme & co");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let expected = json!({ "specversion": "1.0", "id": "test-1", "source": "/test", "type": "order.created", "subject": "acme/7",
        "data": { "tenant": "acme & co", "id": 7 } });
    assert_eq!(body, expected);
    assert!(header(request, "webhook-id").starts_with("msg_") && header(request, "webhook-signature").starts_with("v1,"));
    assert!(header(request, "webhook-timestamp").parse::<u64>().unwrap() > 1_700_000_000);
}

#[test]
fn rules_fit_or_not() {
    let requests = |kind: &str, subject: Option<&str>| {
        let event = Event { subject: subject.map(str::to_owned), ..testing::event(kind, json!({ "tenant": "t", "id": 1 })) };
        run(RULES, event).requests.len()
    };
    for (kind, subject, expected) in [
        ("order.paid", Some("acme/1"), 1),
        ("refund", Some("acme/"), 1),
        ("refunds", Some("acme/1"), 0),
        ("order.paid", Some("other/1"), 0),
        ("order.paid", None, 0),
    ] {
        assert_eq!(requests(kind, subject), expected, "{kind} {subject:?}");
    }
}

#[test]
fn what_an_event_says_stays_in_its_place() {
    for tenant in ["..", ".", ""] {
        let run = run(RULES, order(json!({ "tenant": tenant, "id": 1 })));
        assert!(run.result.unwrap_err().reason().contains("a way out of the path") && run.requests.is_empty(), "{tenant}");
    }
    let sent = run(RULES, order(json!({ "tenant": "../x?y#z@\r\nX: y", "id": "&a=b" })));
    assert_eq!(sent.requests[0].url, "https://hooks.example.com/v1/..%2Fx%3Fy%23z%40%0D%0AX%3A%20y?order=%26a%3Db");
    assert_eq!(header(&sent.requests[0], "x-tenant"), "../x?y#z@  X: y");
    let missing = run(RULES, order(json!({ "id": 1 }))).result;
    assert_eq!(missing, Err(reject("rule `orders`: `url` line 1: `data.tenant` is missing")));
}

#[test]
fn bodies() {
    let body = |lines: &str, event: Event<Bytes>| String::from_utf8(run(&rule(lines), event).requests[0].body.clone()).unwrap();
    let event = || order(json!({ "text": "say \"hi\"\n", "n": null }));
    let template = r#"body = '{"text": {{ data.text }}, "n": {{ data.n }}, "type": {{ event.type }}}'"#;
    assert_eq!(body(template, event()), r#"{"text": "say \"hi\"\n", "n": null, "type": "order.created"}"#);
    assert_eq!(body("body = 'it is {{ data.text }}'\ncontent-type = 'text/plain'", event()), "it is say \"hi\"\n");
    let exact = Event { data: Bytes(br#"{"n": 12345678901234567890.10}"#.to_vec()), ..event() };
    assert_eq!(body("body = 'data'", exact.clone()), r#"{"n": 12345678901234567890.10}"#);
    assert!(body("", exact).ends_with(r#""data":{"n": 12345678901234567890.10}}"#));
    let text = Event { data: Bytes(b"a\nb".to_vec()), datacontenttype: Some("text/plain".to_owned()), ..event() };
    assert!(body("", text).ends_with(r#""data":"a\nb"}"#));
    let bytes = Event { data: Bytes(vec![0, 255]), datacontenttype: Some("image/png".to_owned()), ..event() };
    assert!(body("", bytes).ends_with(&format!(r#""data_base64":"{}"}}"#, STANDARD.encode([0, 255]))));
}

#[test]
fn answers_decide() {
    let result = |status: u16| {
        let mut host = host(RULES).http(move |_| Ok(Response { body: b"so".to_vec(), ..Response::status(status) }));
        host.run(notify, order(json!({ "tenant": "t", "id": 1 }))).result
    };
    assert_eq!(result(200), Ok(()));
    assert_eq!(result(410), Err(reject("rule `orders`: answered 410: so")));
    assert_eq!(result(503), Err(retry("rule `orders`: answered 503: so")));
    for (error, expected) in [
        (Error::Unavailable("no connection".to_owned()), retry("rule `orders`: no connection")),
        (Error::Denied("not granted".to_owned()), reject("rule `orders`: not granted")),
    ] {
        let mut host = host(RULES).http(move |_| Err(error.clone()));
        assert_eq!(host.run(notify, order(json!({ "tenant": "t", "id": 1 }))).result, Err(expected));
    }
}

#[test]
fn a_second_attempt_is_the_same_message() {
    let mut host = host(RULES);
    let ids = [1, 2].map(|_| {
        let run = host.run(notify, order(json!({ "tenant": "t", "id": 1 })));
        header(&run.requests[0], "webhook-id").to_owned()
    });
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn mistakes_are_told_before_an_event_comes() {
    for (rules, expected) in [
        ("[[webhook]]\nname = 'r'\nurl = 'x'".to_owned(), "missing field `type`"),
        (rule("tpye = 'x'"), "line 5: unknown field `tpye`"),
        (rule("method = 'GET'"), "`method` is `GET`"),
        (rule("timeout = 0"), "`timeout` is out of range"),
        (rule("content-type = 'text/plain'"), "is for a `body` that is a template"),
        (rule("headers = { Host = 'x' }"), "not the rule's to write"),
        (rule("headers = { 'a b' = 'x' }"), "not the name of a header"),
        (rule("body = '{{ data.x'"), "`body` line 1"),
        (rule("body = '{{ dat.x }}'"), "`dat` is not known"),
        (rule("body = '{{ data.x|money }}'"), "`body` line 1: unknown filter"),
        (rule("key = 'other'"), "config key `other` is not set"),
        (rule("").replace("https://h/x", "https://{{ data.host }}/x"), "begins with no scheme and host"),
        (rule("").replace("https://h/x", "h/x"), "begins with no scheme and host"),
        (format!("{}\n{}", rule(""), rule("")), "two rules have this name"),
        ("x =".to_owned(), "line 1"),
    ] {
        let result = host(&rules).self_test(check).result;
        assert!(result.as_ref().is_err_and(|failure| failure.reason().contains(expected)), "{rules}: {result:?}");
    }
    assert_eq!(host(RULES).self_test(check).result, Ok(()));
    let unsigned = Host::new().config("rules", rule("sign = false")).self_test(check).result;
    assert_eq!(unsigned, Ok(()));
    let short = host(RULES).config("key", "short").self_test(check).result;
    assert_eq!(short, Err(reject("config key `key`: key 1 has 5 bytes, expected at least 16 of chance")));
}

#[test]
fn the_rules_that_ship_are_good() {
    let rules = include_str!("../webhook-rules.toml");
    assert_eq!(host(rules).config("audit-key", KEY).self_test(check).result, Ok(()));
}

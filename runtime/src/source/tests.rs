//! Messages of every shape, and what becomes of them: the examples of the CloudEvents HTTP binding and what goes wrong.

use super::*;

const INTAKE: Intake = Intake { queue: "events", kind: "com.example.raw", map: None, max_event: 1_000, now: Timestamp(1_500) };

fn take(headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<Event>, Refusal> {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    read(&Message { headers: &headers, body: &Bytes::copy_from_slice(body) }, &INTAKE)
}

fn one(headers: &[(&str, &str)], body: &[u8]) -> Event {
    let mut events = take(headers, body).unwrap();
    assert_eq!(events.len(), 1);
    events.remove(0)
}

fn error(headers: &[(&str, &str)], body: &[u8]) -> String {
    take(headers, body).unwrap_err().to_string()
}

/// The binding's §3.1.4, with headers added.
fn binary<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let example = [
        ("host", "webhook.example.com"),
        ("ce-specversion", "1.0"),
        ("ce-type", "com.example.someevent"),
        ("ce-id", "1234-1234-1234"),
        ("ce-source", "/mycontext/subcontext"),
    ];
    example.into_iter().chain(more.iter().copied()).collect()
}

fn some_event() -> Event {
    Event {
        id: "1234-1234-1234".to_owned(),
        source: "/mycontext/subcontext".to_owned(),
        kind: "com.example.someevent".to_owned(),
        ..Event::default()
    }
}

#[test]
fn binary_mode_takes_attributes_from_headers() {
    let json = "application/json; charset=utf-8";
    let headers = binary(&[("ce-time", "2018-04-05T03:56:24Z"), ("content-type", json), ("ce-myext", "Euro%20%E2%82%AC")]);
    let expected = Event {
        time: Some("2018-04-05T03:56:24Z".to_owned()),
        datacontenttype: Some(json.to_owned()),
        extensions: vec![("myext".to_owned(), "Euro €".to_owned())],
        data: Some(Bytes::from_static(b"{\"a\": 1}")),
        ..some_event()
    };
    assert_eq!(one(&headers, b"{\"a\": 1}"), expected);
    // What is not given stays away: no time, no data, no content type.
    assert_eq!(one(&binary(&[]), b""), some_event());
    assert_eq!(one(&binary(&[("content-type", "image/png")]), b"").datacontenttype.as_deref(), Some("image/png"));
    assert_eq!(one(&binary(&[]), b"7").datacontenttype, None);
    assert_eq!(one(&binary(&[]), b"\x89PNG").datacontenttype.as_deref(), Some("application/octet-stream"));
    assert_eq!(one(&binary(&[("content-type", "image/png")]), b"\x89PNG").data, Some(Bytes::from_static(b"\x89PNG")));
}

#[test]
fn binary_mode_says_what_is_wrong() {
    assert!(error(&[("ce-id", "1")], b"").contains("`specversion` is missing"));
    assert!(error(&[("ce-specversion", "1.0"), ("ce-id", "1")], b"").contains("`source` is missing"));
    assert!(error(&[("ce-specversion", "0.3")], b"").contains("`specversion` is `0.3`"));
    for (name, value, expected) in [
        ("ce-id", "2", "header `ce-id` is given more than once"),
        ("ce-datacontenttype", "text/plain", "the header `content-type` in its place"),
        ("ce-time", "noon", "attribute `time` is `noon`"),
        ("ce-subject", "", "attribute `subject` is"),
        ("ce-my_ext", "x", "attribute `my_ext` is no attribute name"),
        ("ce-", "x", "attribute `` is no attribute name"),
        ("ce-data", "x", "attribute `data`"),
        ("ce-x", "%00", "control characters"),
        ("ce-x", "%ff", "header `ce-x` is not UTF-8"),
        ("ce-weirattempt", "9", "`weirattempt` is Weir's own"),
        ("content-encoding", "gzip", "header `content-encoding` is `gzip`"),
        ("content-type", "application/json", "body is not JSON, which its content type `application/json` says it is"),
    ] {
        let found = error(&binary(&[(name, value)]), b"{not json");
        assert!(found.contains(expected), "{name}: {value}: {found}");
    }
}

#[test]
fn structured_mode_takes_everything_from_the_body() {
    let body = br#"{"specversion":"1.0","type":"com.example.someevent","id":"1234-1234-1234","source":"/mycontext/subcontext"}"#;
    for content_type in [
        "application/cloudevents+json; charset=utf-8",
        "Application/CloudEvents+JSON;charset=\"UTF-8\"",
        "application/cloudevents+json",
    ] {
        // Headers may repeat attributes: the body is what counts.
        assert_eq!(one(&[("content-type", content_type), ("ce-id", "other")], body), some_event());
    }
    let structured = [("content-type", "application/cloudevents+json")];
    assert!(error(&structured, b"{\"id\":\"1\"}").contains("`specversion` is missing"));
    assert!(error(&structured, b"").contains("not a CloudEvent in JSON"));
    assert!(error(&structured, &[b"[", &body[..], b"]"].concat()).contains("not a CloudEvent in JSON"));
    let reserved = br#"{"specversion":"1.0","type":"t","id":"1","source":"/s","weirhops":1}"#;
    assert!(error(&structured, reserved).contains("`weirhops` is Weir's own"));
    for content_type in
        ["application/cloudevents+avro", "application/cloudevents", "application/cloudevents+json; charset=utf-16"]
    {
        assert!(error(&[("content-type", content_type)], body).contains(&format!("header `content-type` is `{content_type}`")));
    }
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let batch = [("content-type", "application/cloudevents-batch+json; charset=utf-8")];
    let event = |id: &str| format!(r#"{{"specversion":"1.0","type":"t","id":"{id}","source":"/s"}}"#);
    let events = take(&batch, format!("[{}, {}]", event("1"), event("2")).as_bytes()).unwrap();
    assert_eq!(events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(take(&batch, b" [ ] ").unwrap(), []);

    let wrong = take(&batch, format!("[{}, {}, 7]", event("1"), event("")).as_bytes()).unwrap_err();
    assert_eq!((wrong.index, wrong.to_string().contains("`id` is missing")), (Some(1), true));
    let large =
        format!(r#"[{}, {{"specversion":"1.0","type":"t","id":"2","source":"/s","data":"{}"}}]"#, event("1"), "x".repeat(1_000));
    let large = take(&batch, large.as_bytes()).unwrap_err();
    assert_eq!((large.index, large.problem.is_size()), (Some(1), true));
    for body in [&b"{}"[..], b"", b"[1", b"[] []", b"null", b"\"[]\""] {
        let refusal = take(&batch, body).unwrap_err();
        assert!(matches!(refusal, Refusal { problem: Problem::NotBatch(_), index: None }), "{refusal:?}");
    }
    let many = format!("[{}0]", "0,".repeat(BATCH_EVENTS_MAX));
    assert_eq!(take(&batch, many.as_bytes()).unwrap_err(), Problem::TooMany.into());
}

#[test]
fn anything_else_is_wrapped() {
    let octets = "application/octet-stream";
    let form = "application/x-www-form-urlencoded";
    for (content_type, body, expected) in [
        (None, &b"{\"a\":1}"[..], "application/json"),
        (None, b"a=1", octets),
        (None, b"\xff", octets),
        (Some(""), b"7", "application/json"),
        (Some("application/json"), b"[1]", "application/json"),
        (Some("application/vnd.example+json"), b"[1]", "application/vnd.example+json"),
        (Some("text/plain"), b"7", "text/plain"),
        (Some(form), b"{\"a\":1}", "application/json"),
        (Some(form), b"a=1", form),
    ] {
        let headers: Vec<_> = content_type.map(|content_type| ("content-type", content_type)).into_iter().collect();
        let event = one(&headers, body);
        assert_eq!(event.datacontenttype.as_deref(), Some(expected), "{content_type:?}");
        assert_eq!(event.data.as_deref(), Some(body));
        assert_eq!((event.source.as_str(), event.kind.as_str()), ("/weir/queue/events", "com.example.raw"));
        assert_eq!(event.time.as_deref(), Some("1970-01-01T00:00:01.500Z"));
        assert_eq!(uuid::Uuid::parse_str(&event.id).unwrap().get_version_num(), 7);
        event.complete().unwrap();
    }
    assert_eq!(error(&[], b""), "body is empty and there are no `ce-` headers, expected an event");
    assert!(error(&[("content-type", "application/json")], b"{").contains("body is not JSON"));
    assert!(take(&[], &[b'x'; 2_000]).unwrap_err().problem.is_size());
    assert!(error(&[("content-type", "a"), ("content-type", "b")], b"x").contains("`content-type` is given more than once"));
}

//! Messages become events and back.

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn wrapping() -> Wrapping {
    Wrapping::new("orders", "com.example.raw")
}

fn raw(message: Message) -> Raw {
    Raw { properties: message.properties, body: message.body }
}

fn came(raw: &Raw) -> (Event, Book) {
    let book = book(raw, Uuid::from_u128(7), NOW);
    (event(raw, &book, &wrapping()), book)
}

fn headers(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn text_of(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

#[test]
fn what_is_written_is_read_again() {
    for text in [
        r#"{"specversion":"1.0","id":"a b","source":"/s","type":"t","subject":"ä\"%","partitionkey":"k","correlationid":"c","data":{"a":1}}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"x"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":""}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/octet-stream","data_base64":"AP8="}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/cloudevents+json","data":{"a":1}}"#,
    ] {
        let sent = json::read(text.as_bytes()).unwrap();
        let raw = raw(message(&sent, Uuid::from_u128(9), Timestamp(1_700_000_000_123)));
        let (event, book) = came(&raw);
        assert_eq!(event, sent);
        assert_eq!((book.position, book.published), (Position(9), Timestamp(1_700_000_000_123)));
        assert_eq!((book.tries, book.due, book.delivered), (Tries::default(), None, None));
    }
}

#[test]
fn both_spellings_and_native_types_are_read() {
    let table = headers(&[
        ("cloudEvents_specversion", text_of("1.0")),
        ("cloudEvents:id", text_of("1")),
        ("cloudEvents_source", text_of("/s")),
        ("cloudEvents:type", text_of("t")),
        ("cloudEvents:time", AMQPValue::Timestamp(1_700_000_000)),
        ("cloudEvents_sequence", AMQPValue::LongInt(-3)),
        ("cloudEvents_sampled", AMQPValue::Boolean(true)),
        ("other", text_of("x")),
    ]);
    let properties = BasicProperties::default().with_headers(table).with_content_type("text/plain".into());
    let (event, _) = came(&Raw { properties, body: Bytes::from_static(b"hello") });
    assert_eq!(event.time.as_deref(), Some("2023-11-14T22:13:20.000Z"));
    assert_eq!((event.extension("sequence"), event.extension("sampled")), (Some("-3"), Some("true")));
    assert_eq!((event.kind.as_str(), event.data.as_deref()), ("t", Some(&b"hello"[..])));
}

#[test]
fn anything_else_is_wrapped() {
    let properties = BasicProperties::default().with_message_id("m-1".into()).with_correlation_id("c-1".into());
    let (event, book) = came(&Raw { properties, body: Bytes::from_static(b"{\"a\":1}") });
    assert_eq!((event.id.as_str(), event.source.as_str(), event.kind.as_str()), ("m-1", "/weir/queue/orders", "com.example.raw"));
    assert_eq!(event.extension("correlationid"), Some("c-1"));
    assert_eq!((book.published, book.position), (NOW, position("m-1")));
    // Without a name of its own, it is called by what it was given, in copies too.
    let bare = Raw { properties: BasicProperties::default(), body: Bytes::from_static(b"x") };
    let (event, book) = came(&bare);
    let again = raw(copy(&bare, &book, Tries::default(), None));
    assert_eq!(came(&again).0.id, event.id);
    assert_eq!(came(&again).1.position, Position(7));
}

#[test]
fn times_are_the_brokers_own_as_far_as_it_has_them() {
    let of = |properties: BasicProperties| book(&Raw { properties, body: Bytes::new() }, Uuid::nil(), NOW).published;
    let died = AMQPValue::FieldArray(
        [1_600_000_100, 1_600_000_000]
            .map(|time| AMQPValue::FieldTable(headers(&[("time", AMQPValue::Timestamp(time))])))
            .to_vec()
            .into(),
    );
    assert_eq!(of(BasicProperties::default()), NOW);
    assert_eq!(of(BasicProperties::default().with_timestamp(1_700_000_000)), Timestamp(1_700_000_000_000));
    assert_eq!(of(BasicProperties::default().with_timestamp(9_700_000_000)), NOW, "not in the future");
    assert_eq!(of(BasicProperties::default().with_headers(headers(&[("x-death", died)]))), Timestamp(1_600_000_000_000));
}

#[test]
fn copies_carry_what_went_before() {
    let table = headers(&[
        ("mine", text_of("x")),
        ("weirdue", number(5)),
        ("x-delivery-count", AMQPValue::LongLongInt(2)),
        ("x-first-death-queue", text_of("q")),
        ("x-death", AMQPValue::FieldArray(Vec::new().into())),
    ]);
    let properties = BasicProperties::default().with_headers(table).with_message_id("m".into()).with_expiration("60000".into());
    let old = Raw { properties, body: Bytes::from_static(b"x") };
    let before = came(&old).1;
    assert_eq!((before.delivered, before.due), (Some(2), Some(Timestamp(5))));
    let tries = Tries { failed: 3, outside: 9, outside_since: Some(Timestamp(1_700_000_000_123)) };
    let again = raw(copy(&old, &before, tries, Some(Timestamp(77))));
    let book = came(&again).1;
    assert_eq!((book.tries, book.due, book.delivered), (tries, Some(Timestamp(77)), None));
    assert_eq!((book.position, book.published), (before.position, before.published));
    let names: Vec<_> =
        again.properties.headers().as_ref().unwrap().inner().keys().map(|name| name.as_str().to_owned()).collect();
    assert_eq!(names, ["mine", "timestamp_in_ms", "weirattempt", "weirdue", "weiroutside", "weirsince"]);
    assert_eq!(again.properties.expiration(), &None);
    assert_eq!(again.properties.message_id().as_ref().map(ShortString::as_str), Some("m"));
    let none = came(&raw(copy(&again, &book, Tries::default(), None))).1;
    assert_eq!((none.tries, none.due), (Tries::default(), None));
}

#[test]
fn a_delayed_message_forgets_that_it_waited() {
    let event = json::read(br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#).unwrap();
    let waiting = raw(with_key(message(&event, Uuid::nil(), Timestamp(7)), "a.b", Timestamp(9)));
    let book = came(&waiting).1;
    assert_eq!((book.key.as_deref(), book.due), (Some("a.b"), Some(Timestamp(9))));
    let (again, book) = came(&raw(released(&waiting)));
    assert_eq!((again, book.key, book.due), (event, None, None));
}

//! A message of MQTT becomes an event, and an event a message: the CloudEvents binding for MQTT 5, in which attributes are user
//! properties (surface.md §5). Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};

use super::acks::Print;
use crate::clock::Timestamp;
use crate::event::{Event, json};
use crate::queue::wrapping::{self, Parts, Wrapping};
use crate::source;

/// The event of a message; `id` is for one that has none of its own. What is no CloudEvent has its topic as subject: with wildcards it
/// is all that says where the message belongs.
pub(super) fn event(wrapping: &Wrapping, id: String, message: &Publish, now: Timestamp) -> Event {
    let properties = message.properties.as_ref();
    let all = properties.map(|properties| properties.user_properties.as_slice()).unwrap_or_default();
    let mut attributes: Vec<(&str, &str)> = Vec::with_capacity(all.len());
    for (name, value) in all {
        // A property may stand there twice, and may be no attribute: others use them too.
        if is_attribute(name) && attributes.iter().all(|(known, _)| known != name) {
            attributes.push((name, value));
        }
    }
    let content_type = properties.and_then(|properties| properties.content_type.as_deref());
    let parts = Parts { attributes: &attributes, content_type, body: &message.payload };
    let mut event = wrapping.parts(id.clone(), parts, now);
    if event.id == id && event.source == wrapping.source && event.subject.is_none() {
        let topic = String::from_utf8_lossy(&message.topic).into_owned();
        // One that can't be a subject is left out.
        let _ = event.set("subject", topic);
    }
    event
}

fn is_attribute(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    plain && !matches!(name, "" | "data" | "datacontenttype")
}

/// The message of an event: in binary mode, or as JSON where that would come out as something else.
pub(super) fn message(topic: &str, event: &Event) -> Publish {
    let is_empty = event.data.as_ref().is_some_and(bytes::Bytes::is_empty);
    if is_empty || source::not_json(event).is_some() {
        let content_type = Some("application/cloudevents+json".to_owned());
        let properties = PublishProperties { content_type, ..PublishProperties::default() };
        return Publish::new(topic, QoS::AtLeastOnce, json::write(event), Some(properties));
    }
    let attributes = wrapping::attributes(event).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let properties = PublishProperties {
        user_properties: attributes.collect(),
        // None is JSON, and stays none.
        content_type: event.datacontenttype.clone(),
        ..PublishProperties::default()
    };
    Publish::new(topic, QoS::AtLeastOnce, event.data.clone().unwrap_or_default(), Some(properties))
}

/// What tells one message from another that has the same packet id later.
pub(super) fn print(message: &Publish) -> Print {
    let mut hash = DefaultHasher::new();
    (&message.topic, &message.payload).hash(&mut hash);
    if let Some(properties) = &message.properties {
        (&properties.user_properties, &properties.content_type).hash(&mut hash);
    }
    Print(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn read(properties: &[(&str, &str)], content_type: Option<&str>, body: &'static [u8]) -> Event {
        let user_properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let properties =
            PublishProperties { user_properties, content_type: content_type.map(str::to_owned), ..PublishProperties::default() };
        let message = Publish::new("sensors/7", QoS::AtLeastOnce, body, Some(properties));
        event(&Wrapping::new("orders", "com.example.raw"), "new".to_owned(), &message, NOW)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            r#"{"specversion":"1.0","id":"a b","source":"/s","type":"t","subject":"ä\"%","partitionkey":"k","data":{"a":1}}"#,
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#,
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":""}"#,
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"e2Jyb2tlbg=="}"#,
        ] {
            let event = json::read(text.as_bytes()).unwrap();
            let came = super::event(&Wrapping::new("q", "x"), String::new(), &message("a/b", &event), NOW);
            assert_eq!(came, event);
        }
    }

    #[test]
    fn properties_of_others_are_passed_over() {
        let all =
            [("X-Trace", "1"), ("specversion", "1.0"), ("id", "2"), ("source", "/s"), ("type", "t"), ("id", "3"), ("data", "x")];
        let event = read(&all, Some("text/plain"), b"hello");
        assert_eq!((event.id.as_str(), event.kind.as_str(), event.subject.as_deref()), ("2", "t", None));
        assert!(event.extensions.is_empty(), "{:?}", event.extensions);
    }

    #[test]
    fn anything_else_is_wrapped_with_its_topic() {
        let event = read(&[("unit", "C")], None, b"21.5");
        assert_eq!((event.id.as_str(), event.source.as_str()), ("new", "/weir/queue/orders"));
        assert_eq!((event.kind.as_str(), event.subject.as_deref()), ("com.example.raw", Some("sensors/7")));
        assert_eq!(event.data.as_deref(), Some(&b"21.5"[..]));
    }

    #[test]
    fn prints_tell_messages_apart() {
        let one = message("a", &Event { id: "1".to_owned(), ..Event::default() });
        let other = message("a", &Event { id: "2".to_owned(), ..Event::default() });
        assert_eq!(print(&one), print(&Publish { dup: true, pkid: 9, ..one.clone() }));
        assert_ne!(print(&one), print(&other));
    }
}

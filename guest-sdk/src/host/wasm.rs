//! The bindings to `wit/`, and the values on both sides of them. Compiled for wasm only.
//!
//! Each import has a world of its own beside the one that exports the handler: an import that is never called is then not named by the
//! component, and a handler is refused when it imports what is not granted.

mod http;
pub(crate) mod keyvalue;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::log::Level;
use crate::{Failure, email, publish};

pub(crate) use http::request;

/// The export every handler has.
pub mod handler {
    #![expect(missing_docs, reason = "generated")]
    wit_bindgen::generate!({
        path: "wit/weir-events-0.1.0",
        world: "weir:events/event-handler",
        pub_export_macro: true,
        default_bindings_module: "weir_sdk::__private::handler",
    });

    pub use exports::weir::events::handler::{Delivery, Event, Failure, Guest};

    /// Calls the handler's function with an event as it came over the boundary.
    pub fn run<A>(function: impl crate::Handler<A>, event: Event, delivery: Delivery) -> Result<(), Failure> {
        function.call(event.into(), delivery.into()).map_err(Into::into)
    }
}

/// The export of batch handlers.
pub mod batch {
    #![expect(missing_docs, reason = "generated")]
    wit_bindgen::generate!({
        path: "wit/weir-events-0.1.0",
        world: "weir:events/batch-event-handler",
        with: { "weir:events/types@0.1.0": super::handler::weir::events::types },
        pub_export_macro: true,
        default_bindings_module: "weir_sdk::__private::batch",
    });

    pub use exports::weir::events::batch_handler::{Answer, Guest, Item};

    /// Calls the handler's function with items as they came over the boundary.
    pub fn run<A>(function: impl crate::batch::BatchHandler<A>, items: Vec<Item>) -> Vec<Answer> {
        let item = |(index, item): (u32, Item)| crate::Item::new(index, item.event.into(), item.delivery.into());
        let answers = function.call((0..).zip(items).map(item).collect());
        let answer = |answer: crate::batch::Answer| Answer { index: answer.index, verdict: answer.result.map_err(Into::into) };
        answers.into_iter().map(answer).collect()
    }
}

/// The export of handlers that test themselves.
pub mod self_test {
    #![expect(missing_docs, reason = "generated")]
    wit_bindgen::generate!({
        inline: "package weir:sdk-self-test; world tested { export weir:events/self-test@0.1.0; }",
        path: "wit/weir-events-0.1.0",
        world: "weir:sdk-self-test/tested",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "weir_sdk::__private::self_test",
    });

    pub use exports::weir::events::self_test::Guest;

    /// Calls the self-test's function.
    pub fn run<R: crate::IntoResult>(function: fn() -> R) -> Result<(), String> {
        function().into_result().map_err(|failure| failure.to_string())
    }
}

mod config {
    wit_bindgen::generate!({ path: "wit/wasi-config-0.2.0-rc.1", world: "wasi:config/imports" });
}

mod logging {
    wit_bindgen::generate!({ path: "wit/wasi-logging-0.1.0-draft", world: "wasi:logging/imports" });
}

mod mail {
    wit_bindgen::generate!({
        inline: "package weir:sdk-mail; world mail { import weir:events/email@0.1.0; }",
        path: "wit/weir-events-0.1.0",
        world: "weir:sdk-mail/mail",
        generate_all,
    });
}

mod publisher {
    wit_bindgen::generate!({
        inline: "package weir:sdk-publish; world publish { import weir:events/publisher@0.1.0; }",
        path: "wit/weir-events-0.1.0",
        world: "weir:sdk-publish/publish",
        with: { "weir:events/types@0.1.0": super::handler::weir::events::types },
        generate_all,
    });
}

pub(crate) fn config_get(key: &str) -> Option<String> {
    config::wasi::config::store::get(key).ok().flatten()
}

pub(crate) fn log(level: Level, context: &str, message: &str) {
    use logging::wasi::logging::logging;
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
    };
    logging::log(level, context, message);
}

pub(crate) fn send(message: email::Message) -> Result<String, email::Error> {
    use mail::weir::events::email as host;
    let attachment = |file: email::Attachment| host::Attachment {
        name: file.name,
        content_type: file.content_type,
        content: file.content,
        content_id: file.content_id,
    };
    let message = host::Message {
        sender_name: message.sender_name,
        to: message.to,
        cc: message.cc,
        bcc: message.bcc,
        reply_to: message.reply_to,
        subject: message.subject,
        text: message.text,
        html: message.html,
        attachments: message.attachments.into_iter().map(attachment).collect(),
        headers: message.headers,
        key: message.key,
    };
    let sent = match super::item() {
        Some(index) => host::send_for(index, &message),
        None => host::send(&message),
    };
    sent.map_err(|error| match error {
        host::Error::Denied(text) => email::Error::Denied(text),
        host::Error::Invalid(text) => email::Error::Invalid(text),
        host::Error::Rejected(text) => email::Error::Rejected(text),
        host::Error::Unavailable(text) => email::Error::Unavailable(text),
    })
}

pub(crate) fn publish(queue: &str, draft: publish::Draft) -> Result<(), publish::Error> {
    use publisher::weir::events::publisher as host;
    let due = match draft.due {
        publish::Schedule::Now => host::Schedule::Now,
        publish::Schedule::After(wait) => host::Schedule::After(millis(wait)),
        publish::Schedule::At(time) => {
            host::Schedule::At(millis(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()))
        }
    };
    let event = draft.event.into();
    let taken = match super::item() {
        Some(index) => host::publish_for(index, queue, &event, due),
        None => host::publish(queue, &event, due),
    };
    taken.map_err(|error| match error {
        host::Error::Denied(text) => publish::Error::Denied(text),
        host::Error::Invalid(text) => publish::Error::Invalid(text),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<crate::Event<crate::Bytes>> for handler::Event {
    fn from(event: crate::Event<crate::Bytes>) -> Self {
        handler::Event {
            id: event.id,
            source: event.source,
            type_: event.kind,
            subject: event.subject,
            time: event.time,
            datacontenttype: event.datacontenttype,
            dataschema: event.dataschema,
            extensions: event.extensions,
            data: Some(event.data.0).filter(|data| !data.is_empty()),
        }
    }
}

impl From<handler::Event> for crate::Event<crate::Bytes> {
    fn from(event: handler::Event) -> Self {
        crate::Event {
            id: event.id,
            source: event.source,
            kind: event.type_,
            subject: event.subject,
            time: event.time,
            datacontenttype: event.datacontenttype,
            dataschema: event.dataschema,
            extensions: event.extensions,
            data: crate::Bytes(event.data.unwrap_or_default()),
        }
    }
}

impl From<handler::Delivery> for crate::Delivery {
    fn from(delivery: handler::Delivery) -> Self {
        crate::Delivery {
            handler: delivery.handler,
            queue: delivery.queue,
            order_key: delivery.order_key,
            attempt: delivery.attempt,
            attempts_left: delivery.attempts_left,
            first_seen: UNIX_EPOCH + Duration::from_millis(delivery.first_seen),
            time_left: Duration::from_millis(delivery.time_left),
            idempotency_key: delivery.idempotency_key,
            wants_reply: delivery.wants_reply,
        }
    }
}

impl From<Failure> for handler::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Reject { reason } => handler::Failure::Reject(reason),
            Failure::Retry { reason, after } => {
                handler::Failure::Retry(handler::weir::events::types::Retry { reason, after: after.map(millis) })
            }
        }
    }
}

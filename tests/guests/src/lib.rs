//! What the guests have in common: bindings to `wit/` and the macro that exports a handler. Says nothing about any behaviour.
//!
//! Raw bindings instead of the SDK: a guest here does what no honest handler does, and tests the sandbox and not the SDK. Each import has
//! a world of its own, so that a component names only what its guest calls.

pub mod chance;
pub mod web;
pub mod keyvalue;

wit_bindgen::generate!({
    path: "../../wit/weir-events-0.1.0",
    world: "weir:events/event-handler",
    pub_export_macro: true,
    default_bindings_module: "weir_guests",
});

pub use exports::weir::events::handler::{Delivery, Event, Failure, Guest};
pub use weir::events::types::Retry;

/// What a handler answers.
pub type Answer = Result<(), Failure>;

/// Makes a function of event and delivery the handler of this component.
#[macro_export]
macro_rules! handler {
    ($handle:expr) => {
        struct Component;

        impl $crate::Guest for Component {
            fn handle(event: $crate::Event, delivery: $crate::Delivery) -> $crate::Answer {
                let handle: fn($crate::Event, $crate::Delivery) -> $crate::Answer = $handle;
                handle(event, delivery)
            }
        }

        $crate::export!(Component with_types_in $crate);
    };
}

/// `weir:events/batch-handler`.
pub mod batch {
    wit_bindgen::generate!({
        path: "../../wit/weir-events-0.1.0",
        world: "weir:events/batch-event-handler",
        with: { "weir:events/types@0.1.0": crate::weir::events::types },
        pub_export_macro: true,
        default_bindings_module: "weir_guests::batch",
    });

    pub use exports::weir::events::batch_handler::{Answer, Guest, Item};

    /// What a batch handler answers.
    pub type Answers = Result<Vec<Answer>, crate::Failure>;

    /// What an item's event says as its data: a text.
    pub fn says(item: &Item) -> String {
        String::from_utf8(item.event.data.clone().unwrap_or_default()).unwrap_or_default().trim_matches('"').to_owned()
    }
}

/// Makes a function of items the batch handler of this component.
#[macro_export]
macro_rules! batch_handler {
    ($handle:expr) => {
        struct Component;

        impl $crate::batch::Guest for Component {
            fn handle(items: Vec<$crate::batch::Item>) -> $crate::batch::Answers {
                let handle: fn(Vec<$crate::batch::Item>) -> $crate::batch::Answers = $handle;
                handle(items)
            }
        }

        $crate::batch::export!(Component with_types_in $crate::batch);
    };
}

/// `weir:events/self-test`.
pub mod self_test {
    wit_bindgen::generate!({
        inline: "package weir:guest-self-test; world tested { export weir:events/self-test@0.1.0; }",
        path: "../../wit/weir-events-0.1.0",
        world: "weir:guest-self-test/tested",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "weir_guests::self_test",
    });

    pub use exports::weir::events::self_test::Guest;
}

/// `weir:events/email`.
pub mod email {
    wit_bindgen::generate!({
        inline: "package weir:guest-mail; world mail { import weir:events/email@0.1.0; }",
        path: "../../wit/weir-events-0.1.0",
        world: "weir:guest-mail/mail",
        generate_all,
    });

    pub use weir::events::email::{Error, Message, send, send_for};

    /// A small mail to one person.
    pub fn message(to: &str, text: &str) -> Message {
        Message {
            sender_name: None,
            to: vec![to.to_owned()],
            cc: Vec::new(),
            bcc: Vec::new(),
            reply_to: Vec::new(),
            subject: "hello".to_owned(),
            text: Some(text.to_owned()),
            html: None,
            attachments: Vec::new(),
            headers: Vec::new(),
            key: None,
        }
    }
}

/// `weir:events/publisher`.
pub mod publisher {
    wit_bindgen::generate!({
        inline: "package weir:guest-publish; world publish { import weir:events/publisher@0.1.0; }",
        path: "../../wit/weir-events-0.1.0",
        world: "weir:guest-publish/publish",
        with: { "weir:events/types@0.1.0": crate::weir::events::types },
        generate_all,
    });

    pub use crate::weir::events::types::Event;
    pub use weir::events::publisher::{Error, Schedule, publish, publish_for, reply};

    /// An event with nothing but a type and data.
    pub fn event(kind: &str, data: &str) -> Event {
        Event {
            id: String::new(),
            source: String::new(),
            type_: kind.to_owned(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: Vec::new(),
            data: Some(data.as_bytes().to_vec()),
        }
    }

    /// The same with one more extension.
    pub fn extended(mut event: Event, name: &str, value: &str) -> Event {
        event.extensions.push((name.to_owned(), value.to_owned()));
        event
    }

    /// Publishes to `events`, now.
    pub fn publish_now(event: &Event) -> Result<(), Error> {
        publish("events", event, Schedule::Now)
    }
}

/// `wasi:logging`.
pub mod logging {
    wit_bindgen::generate!({ path: "../../wit/wasi-logging-0.1.0-draft", world: "wasi:logging/imports" });

    pub use wasi::logging::logging::{Level, log};
}

/// `wasi:config/store` under its three names.
pub mod config {
    pub mod draft {
        wit_bindgen::generate!({ path: "../../wit/wasi-config-0.2.0-draft", world: "wasi:config/imports" });
        pub use wasi::config::store::{get, get_all};
    }

    pub mod draft_2024_09_27 {
        wit_bindgen::generate!({ path: "../../wit/wasi-config-0.2.0-draft-2024-09-27", world: "wasi:config/imports" });
        pub use wasi::config::store::{get, get_all};
    }

    pub mod rc_1 {
        wit_bindgen::generate!({ path: "../../wit/wasi-config-0.2.0-rc.1", world: "wasi:config/imports" });
        pub use wasi::config::store::{get, get_all};
    }

    /// A value that the test set, or nothing.
    pub fn get(key: &str) -> String {
        rc_1::get(key).ok().flatten().unwrap_or_default()
    }
}

/// Asks for another try.
pub fn retry(reason: &str, after: Option<u64>) -> Answer {
    Err(Failure::Retry(Retry { reason: reason.to_owned(), after }))
}

/// Gives the event up.
pub fn reject(reason: impl Into<String>) -> Answer {
    Err(Failure::Reject(reason.into()))
}

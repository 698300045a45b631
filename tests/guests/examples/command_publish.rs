//! Publishes an event, and ends as the event that it was given says.
#[path = "../src/program.rs"]
mod program;

mod bindings {
    wit_bindgen::generate!({
        inline: "package weir:guest-publish; world publish { import weir:events/publisher@0.1.0; }",
        path: "../../wit/weir-events-0.1.0",
        world: "weir:guest-publish/publish",
        generate_all,
    });
}

use bindings::weir::events::publisher::{Event, Schedule, publish};

fn main() {
    let event = program::event();
    let copy = Event {
        id: String::new(),
        source: String::new(),
        type_: "copy".to_owned(),
        subject: None,
        time: None,
        datacontenttype: None,
        dataschema: None,
        extensions: Vec::new(),
        data: Some(b"1".to_vec()),
    };
    publish("events", &copy, Schedule::Now).unwrap();
    if let Some(code) = program::field(&event, "datacontenttype") {
        program::exit(code.parse().unwrap());
    }
}

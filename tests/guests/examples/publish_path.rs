//! Publishes what the test lists, each without an id, and answers ok.
use weir_guests::config;
use weir_guests::publisher::{event, publish_now};

weir_guests::handler!(|_, _| {
    for kind in config::get("path").split_whitespace() {
        publish_now(&event(kind, "{}")).unwrap();
    }
    Ok(())
});

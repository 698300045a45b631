//! Publishes an event and then ends as the test says.
use weir_guests::config;
use weir_guests::publisher::{event, publish_now};

weir_guests::handler!(|_, _| {
    publish_now(&event("t", "{}")).unwrap();
    match config::get("then").as_str() {
        "ok" => Ok(()),
        "reject" => weir_guests::reject("no"),
        "retry" => weir_guests::retry("later", None),
        "panic" => panic!("no more"),
        "loop" => loop {
            std::hint::spin_loop();
        },
        other => unreachable!("`then` is `{other}`"),
    }
});

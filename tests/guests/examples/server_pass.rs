//! Passes what it is given on to the queue that its configuration names.
use weir_guests::config;
use weir_guests::publisher::{Event, Schedule, publish};

weir_guests::handler!(|received, _| {
    publish(&config::get("to"), &Event { id: String::new(), source: String::new(), ..received }, Schedule::Now).unwrap();
    Ok(())
});

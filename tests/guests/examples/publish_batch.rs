//! Calls what is for batches and for requests, says what it was told, and answers ok.
use weir_guests::publisher::{Schedule, event, publish_for, reply};

weir_guests::handler!(|_, delivery| {
    println!("{:?}", publish_for(0, "events", &event("t", "{}"), Schedule::Now));
    println!("{} {:?}", delivery.wants_reply, reply(&event("t", "{}")));
    Ok(())
});

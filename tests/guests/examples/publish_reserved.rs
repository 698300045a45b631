//! Looks for Weir's own attributes in what it was given, publishes an event with one, says what it was told, and answers ok.
use weir_guests::publisher::{event, extended, publish_now};

weir_guests::handler!(|received, _| {
    println!("{:?}", received.extensions);
    println!("{:?}", publish_now(&extended(event("t", "{}"), "weirhandler", "other")));
    Ok(())
});

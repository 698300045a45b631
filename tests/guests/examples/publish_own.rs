//! Publishes to itself and answers ok.
use weir_guests::publisher::{Schedule, event, publish};

weir_guests::handler!(|_, _| {
    println!("{:?}", publish("self", &event("again", "{}"), Schedule::After(60_000)));
    Ok(())
});

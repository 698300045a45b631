//! Publishes to a queue that it is not granted, says what it was told, and answers ok.
use weir_guests::publisher::{Schedule, event, publish};

weir_guests::handler!(|_, _| {
    println!("{:?}", publish("bills", &event("t", "{}"), Schedule::Now));
    Ok(())
});

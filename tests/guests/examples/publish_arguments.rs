//! Publishes an event of 3 MiB.
use weir_guests::publisher::{event, publish_now};

weir_guests::handler!(|_, _| {
    let _ = publish_now(&event("t", &"x".repeat(3 << 20)));
    Ok(())
});

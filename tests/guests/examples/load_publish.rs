//! Imports the publisher.
weir_guests::handler!(|_, _| {
    let _ = weir_guests::publisher::publish_now(&weir_guests::publisher::event("t", "{}"));
    Ok(())
});

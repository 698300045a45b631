//! Publishes five events, does not look at errors and answers ok.
use weir_guests::publisher::{event, publish_now};

weir_guests::handler!(|_, _| {
    for number in 0..5 {
        let _ = publish_now(&event("t", &number.to_string()));
    }
    Ok(())
});

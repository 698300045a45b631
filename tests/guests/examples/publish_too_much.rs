//! Publishes five events of a thousand bytes of data each, does not look at errors and answers ok.
use weir_guests::publisher::{event, publish_now};

weir_guests::handler!(|_, _| {
    let data = format!("\"{}\"", "x".repeat(998));
    for _ in 0..5 {
        let _ = publish_now(&event("t", &data));
    }
    Ok(())
});

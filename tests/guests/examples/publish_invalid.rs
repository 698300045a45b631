//! Publishes what is no event in many ways, says what it was told, and answers ok.
use weir_guests::publisher::{Event, event, extended, publish_now};

weir_guests::handler!(|_, _| {
    let good = || event("t", "{}");
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    for wrong in [
        event("", "{}"),
        Event { time: Some("noon".to_owned()), ..good() },
        Event { source: "a\nb".to_owned(), ..good() },
        extended(good(), "Tenant", "a"),
        extended(extended(good(), "a", "1"), "a", "2"),
        extended(good(), "type", "u"),
        event("t", "{not json"),
        event("t", &large),
    ] {
        println!("{:?}", publish_now(&wrong));
    }
    Ok(())
});

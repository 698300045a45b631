//! Asks for another try, or rejects, now and then: drawn from the event, the attempt and the seed in the event's data.
use weir_guests::chance::drawn;
use weir_guests::{reject, retry};

weir_guests::handler!(|event, delivery| {
    let seed = String::from_utf8_lossy(event.data.as_deref().unwrap_or_default()).trim().parse().unwrap();
    match drawn(&event.id, delivery.attempt, seed) % 100 {
        0..3 => retry("drawn", None),
        3..5 => reject("drawn"),
        _ => Ok(()),
    }
});

//! Publishes events that are due at different times, says what it was told of those that are not taken, and answers ok.
use std::time::{SystemTime, UNIX_EPOCH};

use weir_guests::publisher::{Schedule, event, publish};

const HOUR: u64 = 3_600_000;

weir_guests::handler!(|_, _| {
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    println!("{now}");
    for (name, due) in [
        ("now", Schedule::Now),
        ("after nothing", Schedule::After(0)),
        ("after an hour", Schedule::After(HOUR)),
        ("at the beginning", Schedule::At(0)),
        ("at two hours", Schedule::At(now + 2 * HOUR)),
        ("after ten years", Schedule::After(10 * 365 * 24 * HOUR)),
        ("at the end", Schedule::At(u64::MAX)),
    ] {
        if let Err(error) = publish("events", &event(name, "{}"), due) {
            println!("{name}: {error:?}");
        }
    }
    Ok(())
});

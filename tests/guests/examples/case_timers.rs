//! Does by the type of its event what a case is about: leaves itself an event for later, mails, publishes, asks for another try.
use std::time::{SystemTime, UNIX_EPOCH};

use weir_guests::email;
use weir_guests::publisher::{Schedule, event, publish};

weir_guests::handler!(|got, delivery| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    println!("{} at {now}, attempt {}, first seen {}", got.type_, delivery.attempt, delivery.first_seen);
    let data = String::from_utf8(got.data.unwrap_or_default()).unwrap();
    match got.type_.as_str() {
        // To an address, in ten minutes.
        "remember" => publish("self", &event("due", &data), Schedule::After(600_000)).unwrap(),
        "due" => drop(email::send(&email::message(data.trim_matches('"'), "hello\nthere\n")).unwrap()),
        "tell" => publish("told", &event("news", &data), Schedule::At(u64::try_from(now).unwrap() + 1_000)).unwrap(),
        "again" if delivery.attempt < 3 => return weir_guests::retry("not yet", Some(60_000)),
        "again" => {}
        "spin" => publish("self", &event("spin", &data), Schedule::Now).unwrap(),
        other => return weir_guests::reject(format!("`{other}` is not known")),
    }
    Ok(())
});

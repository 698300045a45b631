//! Does at a later time what its event says, or now, and says in each mail what time it takes it to be. Data: `"NAME MS"`.
use std::time::{SystemTime, UNIX_EPOCH};

use weir_guests::email::{message, send};
use weir_guests::publisher::{Schedule, event, publish};
use weir_guests::{Answer, reject, retry};

weir_guests::handler!(|given, delivery| {
    let data = String::from_utf8(given.data.unwrap_or_default()).unwrap();
    let (name, millis) = data.trim_matches('"').split_once(' ').unwrap();
    let millis = || millis.parse().unwrap();
    match given.type_.as_str() {
        "at" => self_at(name, Schedule::At(millis())),
        "after" => self_at(name, Schedule::After(millis())),
        "retry" if delivery.attempt == 1 => retry("told to", Some(millis())),
        "reject" => reject("told to"),
        _ => mail(name),
    }
});

fn self_at(name: &str, due: Schedule) -> Answer {
    publish("self", &event("mail", &format!("\"{name} 0\"")), due).unwrap();
    Ok(())
}

fn mail(name: &str) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    send(&message(&format!("{name}@example.com"), &now.to_string())).unwrap();
    Ok(())
}

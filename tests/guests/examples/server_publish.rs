//! Publishes to a queue, due after so many milliseconds, and then ends as the event's data says: `"QUEUE MILLISECONDS done"`. What
//! came from such an event has no data: it only says what it is, and whose trace it belongs to. To several queues: `ONE,OTHER:BYTES`, with
//! a number of so many digits as data.
use weir_guests::publisher::{Event, Schedule, event, publish};

weir_guests::handler!(|received, _| {
    let data = String::from_utf8(received.data.unwrap_or_default()).unwrap();
    let words: Vec<&str> = data.trim_matches('"').split(' ').collect();
    let [queue, wait, then] = words[..] else {
        let trace = received.extensions.iter().find(|(name, _)| name == "traceparent");
        println!("a {} with the trace {}", received.type_, trace.map_or("none", |(_, trace)| trace));
        return Ok(());
    };
    let schedule = Schedule::After(wait.parse().unwrap());
    for to in queue.split(',') {
        let (queue, bytes) = to.split_once(':').unwrap_or((to, ""));
        let data = bytes.parse().ok().map(|bytes| vec![b'1'; bytes]);
        publish(queue, &Event { data, ..event("published", "") }, schedule).unwrap();
    }
    println!("then {then}");
    match then {
        "retry" => weir_guests::retry("later", None),
        "trap" => panic!("no more"),
        _ => Ok(()),
    }
});

//! Answers a request twice with what it was sent, so that the last answer counts, and then ends as that says.
use weir_guests::publisher::{event, reply};

weir_guests::handler!(|received, delivery| {
    let data = String::from_utf8(received.data.unwrap_or_default()).unwrap();
    println!("{data} wants a reply: {}, within {} ms", delivery.wants_reply, delivery.time_left);
    for kind in ["draft", "answer"] {
        reply(&event(kind, &data)).unwrap();
    }
    match data.trim_matches('"') {
        "retry" => weir_guests::retry("later", None),
        "trap" => panic!("no more"),
        "slow" => Ok(std::thread::sleep(std::time::Duration::from_secs(60))),
        _ => Ok(()),
    }
});

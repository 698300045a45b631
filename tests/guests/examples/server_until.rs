//! Asks for another try until the attempt that the event's data names.
weir_guests::handler!(|event, delivery| {
    let data = String::from_utf8(event.data.unwrap_or_default()).unwrap();
    println!("attempt {} left {}", delivery.attempt, delivery.attempts_left);
    if delivery.attempt < data.parse().unwrap() { weir_guests::retry("not yet", None) } else { Ok(()) }
});

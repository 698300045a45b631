//! Asks once for another try in an hour.
weir_guests::handler!(|_, delivery| {
    println!("attempt {}", delivery.attempt);
    if delivery.attempt == 1 { weir_guests::retry("in an hour", Some(3_600_000)) } else { Ok(()) }
});

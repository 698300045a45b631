//! Asks for another try in 90 seconds.
weir_guests::handler!(|_, _| weir_guests::retry("not yet", Some(90_000)));

//! Gives the event up with a reason of 500 KB.
weir_guests::handler!(|_, _| weir_guests::reject("é".repeat(250_000)));

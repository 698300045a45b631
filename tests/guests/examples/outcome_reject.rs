//! Gives the event up.
weir_guests::handler!(|_, _| weir_guests::reject("no such account"));

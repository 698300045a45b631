//! Asks for another try, whenever that may be.
weir_guests::handler!(|_, _| weir_guests::retry("not yet", None));

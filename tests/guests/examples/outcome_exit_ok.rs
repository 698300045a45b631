//! Ends the program with success in the middle of the call.
weir_guests::handler!(|_, _| std::process::exit(0));

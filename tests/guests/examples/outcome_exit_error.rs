//! Ends the program with failure in the middle of the call.
weir_guests::handler!(|_, _| std::process::exit(3));

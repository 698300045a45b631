//! Says why on stderr and aborts.
weir_guests::handler!(|_, _| {
    eprintln!("first line\nthe disk is on fire");
    std::process::abort()
});

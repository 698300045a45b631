//! Imports mail.
weir_guests::handler!(|_, _| {
    let _ = weir_guests::email::send(&weir_guests::email::message("ann@example.com", "hello"));
    Ok(())
});

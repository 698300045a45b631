//! Asks for a million random bytes at once.
weir_guests::handler!(|_, _| {
    let bytes = wasip2::random::random::get_random_bytes(1_000_000);
    weir_guests::reject(format!("{} bytes", bytes.len()))
});

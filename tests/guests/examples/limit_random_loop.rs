//! Asks for as many random bytes as one call gives, for ever.
weir_guests::handler!(|_, _| loop {
    wasip2::random::insecure::get_insecure_random_bytes(64 << 10);
});

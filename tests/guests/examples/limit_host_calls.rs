//! Calls the host for ever.
weir_guests::handler!(|_, _| loop {
    wasip2::clocks::monotonic_clock::now();
});

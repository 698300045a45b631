//! Sleeps a millisecond at a time, for ever: never in a host call for long, and nearly without fuel.
weir_guests::handler!(|_, _| loop {
    wasip2::clocks::monotonic_clock::subscribe_duration(1_000_000).block();
});

//! Sleeps for a day.
weir_guests::handler!(|_, _| {
    wasip2::clocks::monotonic_clock::subscribe_duration(86_400_000_000_000).block();
    Ok(())
});

//! Keeps every pollable that it gets.
weir_guests::handler!(|_, _| {
    let mut all = Vec::new();
    loop {
        all.push(wasip2::clocks::monotonic_clock::subscribe_duration(1));
    }
});

//! Waits for the first of two hundred times that are all a day away.
weir_guests::handler!(|_, _| {
    use wasip2::clocks::monotonic_clock::subscribe_duration;
    let waits: Vec<_> = (0..200).map(|at| subscribe_duration(86_400_000_000_000 + at)).collect();
    let waits: Vec<_> = waits.iter().collect();
    wasip2::io::poll::poll(&waits);
    Ok(())
});

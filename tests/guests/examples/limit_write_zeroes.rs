//! Asks the host for more zeroes than there is memory in the world.
weir_guests::handler!(|_, _| {
    let stdout = wasip2::cli::stdout::get_stdout();
    let _ = stdout.write_zeroes(u64::MAX);
    Ok(())
});

//! Writes more than it may in one call to the stream itself, does not look at the error and answers ok.
weir_guests::handler!(|_, _| {
    let stdout = wasip2::cli::stdout::get_stdout();
    for _ in 0..2 {
        let _ = stdout.check_write();
        let _ = stdout.write(&[b'x'; 40_000]);
    }
    Ok(())
});

//! Keeps every stream that it gets.
weir_guests::handler!(|_, _| {
    let mut all = Vec::new();
    loop {
        all.push(wasip2::cli::stdout::get_stdout());
    }
});

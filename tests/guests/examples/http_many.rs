//! Makes five requests, does not look at errors and answers ok.
weir_guests::handler!(|_, _| {
    for _ in 0..5 {
        let _ = weir_guests::web::ask("GET", &weir_guests::config::get("url"), &[], b"");
    }
    Ok(())
});

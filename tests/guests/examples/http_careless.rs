//! Takes in a response, does not look at errors and answers ok.
weir_guests::handler!(|_, _| {
    let _ = weir_guests::web::ask("GET", &weir_guests::config::get("url"), &[], b"");
    Ok(())
});

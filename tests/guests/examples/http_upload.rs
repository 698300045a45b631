//! Sends a body of so many MiB and says what came of it.
weir_guests::handler!(|_, _| {
    let mebibytes: usize = weir_guests::config::get("mebibytes").parse().unwrap();
    let body = vec![b'x'; mebibytes << 20];
    match weir_guests::web::begin("POST", &weir_guests::config::get("url"), &[], &body) {
        Ok(response) => println!("status: {}", response.status()),
        Err(error) => println!("error: {error:?}"),
    }
    weir_guests::retry("to see what it comes to", None)
});

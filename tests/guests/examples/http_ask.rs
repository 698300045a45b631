//! Makes the request that the test says, says what came of it, and ends as the test says: `retry`, `reject`, or done.
weir_guests::handler!(|_, _| {
    let get = weir_guests::config::get;
    let method = Some(get("method")).filter(|method| !method.is_empty()).unwrap_or_else(|| "GET".to_owned());
    for url in get("url").split_whitespace() {
        match weir_guests::web::ask(&method, url, &[("x-of-guest", "yes")], get("body").as_bytes()) {
            Ok((status, Ok(body))) => println!("status: {status}, {} bytes: {}", body.len(), String::from_utf8_lossy(&body)),
            Ok((status, Err(error))) => println!("status: {status}, broken: {error}"),
            Err(error) => println!("error: {error:?}"),
        }
    }
    match get("then").as_str() {
        "retry" => weir_guests::retry("it did not work", Some(90_000)),
        "reject" => weir_guests::reject("it did not work"),
        _ => Ok(()),
    }
});

//! Writes half of a body, and then traps, or waits for an answer that can't come.
weir_guests::handler!(|_, _| {
    let (body, answer) = weir_guests::web::open("POST", &weir_guests::config::get("url"), &[]).unwrap();
    body.write().unwrap().blocking_write_and_flush(b"half").unwrap();
    if weir_guests::config::get("then") == "trap" {
        // Until it has left.
        wasip2::clocks::monotonic_clock::subscribe_duration(300_000_000).block();
        panic!("in the middle of a body");
    }
    answer.subscribe().block();
    println!("answer: {:?}", answer.get().unwrap().unwrap().map(|response| response.status()));
    drop(body);
    weir_guests::retry("to see what it comes to", None)
});

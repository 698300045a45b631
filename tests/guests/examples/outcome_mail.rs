//! Sends a mail and then ends as the test says, whatever the relay answered.
use weir_guests::{config, email};

weir_guests::handler!(|_, _| {
    let sent = email::send(&email::message("ann@example.com", "hello"));
    println!("{sent:?}");
    match config::get("then").as_str() {
        "ok" => Ok(()),
        "reject" => weir_guests::reject("no"),
        "retry" => weir_guests::retry("no mail went", None),
        "panic" => panic!("no mail went"),
        "loop" => loop {
            std::hint::spin_loop();
        },
        other => unreachable!("`then` is `{other}`"),
    }
});

//! Shows a value of its configuration in every way that there is, and ends as the event says.
use weir_guests::logging::{Level, log};

weir_guests::handler!(|event, _| {
    let secret = weir_guests::config::get("secret");
    log(Level::Info, "leak", &format!("logged {secret}"));
    println!("printed {secret}");
    let (half, rest) = secret.split_at(secret.len() / 2);
    eprint!("in two: {half}");
    eprintln!("{rest}");
    let ending = String::from_utf8(event.data.unwrap_or_default()).unwrap();
    match ending.trim_matches('"') {
        "reject" => weir_guests::reject(format!("rejected with {secret}")),
        "long" => weir_guests::reject(format!("{}{secret}", "x".repeat(4090))),
        "retry" => weir_guests::retry(&format!("retried with {secret}"), None),
        "panic" => panic!("panicked with {secret}"),
        _ => Ok(()),
    }
});

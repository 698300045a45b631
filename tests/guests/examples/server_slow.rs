//! Sleeps as many milliseconds as the event's data says, then says that it is done.
use std::time::Duration;

weir_guests::handler!(|event, delivery| {
    let data = String::from_utf8(event.data.unwrap_or_default()).unwrap();
    std::thread::sleep(Duration::from_millis(data.parse().unwrap()));
    println!("slept, attempt {}", delivery.attempt);
    Ok(())
});

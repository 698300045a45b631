//! What an ordinary handler is: works a moment, waits a moment, is done. Says when it began and ended, in nanoseconds.
use std::time::{Duration, SystemTime};

weir_guests::handler!(|_, _| {
    println!("began={}", now());
    std::thread::sleep(Duration::from_millis(30));
    println!("ended={}", now());
    Ok(())
});

fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

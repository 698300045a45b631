//! Says whether clocks move and random bytes differ.
use std::time::{Duration, Instant, SystemTime};

weir_guests::handler!(|_, _| {
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(2));
    println!("slept: {}", begun.elapsed() >= Duration::from_millis(2));
    println!("seconds: {}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
    let bytes = || wasip2::random::random::get_random_bytes(64 << 10);
    let (one, other) = (bytes(), bytes());
    println!("random: {} {} {}", one.len(), other.len(), one != other);
    Ok(())
});

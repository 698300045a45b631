//! The same as `limit_good`, with more initial memory than copying it back is cheap for: another engine.
use std::cell::UnsafeCell;
use std::time::{Duration, SystemTime};

struct Large(UnsafeCell<[u8; 512 << 10]>);

// SAFETY: a component has one thread.
unsafe impl Sync for Large {}

static LARGE: Large = Large(UnsafeCell::new([0; 512 << 10]));

weir_guests::handler!(|_, _| {
    println!("began={}", now());
    // SAFETY: within the array, and nobody else looks.
    let before = unsafe { LARGE.0.get().cast::<u8>().add(300_000).read_volatile() };
    assert_eq!(before, 0, "memory of an earlier event");
    // SAFETY: as above.
    unsafe { LARGE.0.get().cast::<u8>().add(300_000).write_volatile(1) };
    std::thread::sleep(Duration::from_millis(30));
    println!("ended={}", now());
    Ok(())
});

fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

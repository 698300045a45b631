//! The same as `limit_good`, with more initial memory than copying it back is cheap for: another engine. ../build.rs gives it that memory.
use std::arch::wasm32::memory_size;
use std::time::{Duration, SystemTime};

const PAGE: usize = 64 << 10;

weir_guests::handler!(|_, _| {
    println!("began={}", now());
    let pages = memory_size(0);
    assert_eq!(pages, 16, "pages of the first memory");
    let last = std::ptr::with_exposed_provenance_mut::<u8>(pages * PAGE - 1);
    // SAFETY: within the memory, and above all that the linker and the allocator know of.
    let before = unsafe { last.read_volatile() };
    assert_eq!(before, 0, "memory of an earlier event");
    // SAFETY: as above.
    unsafe { last.write_volatile(1) };
    std::thread::sleep(Duration::from_millis(30));
    println!("ended={}", now());
    Ok(())
});

fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

//! Takes more handles than there are.
#[cfg(target_env = "p2")]
fn main() {
    let mut all = Vec::new();
    loop {
        all.push(wasip2::clocks::monotonic_clock::subscribe_duration(1));
    }
}

/// Waits for as many clocks at once: there are no other handles without a folder.
#[cfg(not(target_env = "p2"))]
fn main() {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn poll_oneoff(subscriptions: *const u8, events: *mut u8, count: usize, found: *mut usize) -> u16;
    }
    // Subscriptions of 48 bytes, all zero: to a clock, for a time that has passed. Events have 32.
    const COUNT: usize = 2000;
    let (subscriptions, mut events, mut found) = (vec![0; 48 * COUNT], vec![0; 32 * COUNT], 0);
    let error = unsafe { poll_oneoff(subscriptions.as_ptr(), events.as_mut_ptr(), COUNT, &mut found) };
    println!("{error}: {found}");
}

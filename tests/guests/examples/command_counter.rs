//! Counts its runs where memory would keep the number.
use std::sync::atomic::{AtomicU32, Ordering};

static RUNS: AtomicU32 = AtomicU32::new(0);

fn main() {
    println!("run {}", RUNS.fetch_add(1, Ordering::Relaxed) + 1);
}

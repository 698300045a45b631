//! Counts its events in everything that an instance keeps: a static, the heap and the environment.
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

weir_guests::handler!(|event, _| {
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let mut seen = SEEN.lock().unwrap();
    seen.push(event.id);
    let variables = std::env::vars().count();
    // SAFETY: a component has one thread.
    unsafe { std::env::set_var("SEEN", "yes") };
    weir_guests::reject(format!("{count} events, {} kept, {variables} variables", seen.len()))
});

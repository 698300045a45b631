//! Ends in the way that is drawn for its event and attempt, with the seed in the event's data, and says which. What is done is published.
use std::io::Write;
use std::time::Duration;

use weir_guests::chance::{Way, way};
use weir_guests::publisher::{Schedule, event, publish};
use weir_guests::{Answer, Event, reject, retry};

weir_guests::handler!(|event, delivery| {
    let seed = String::from_utf8_lossy(event.data.as_deref().unwrap_or_default()).trim().parse().unwrap();
    let way = way(&event.id, delivery.attempt, seed);
    println!("way={way:?}");
    match way {
        Way::Done => done(&event),
        Way::Retry => retry("drawn", None),
        Way::Reject => reject("drawn"),
        Way::Trap => core::arch::wasm32::unreachable(),
        Way::Fuel => loop {
            std::hint::spin_loop();
        },
        Way::Memory => {
            let mut all: Vec<Vec<u8>> = Vec::new();
            loop {
                all.push(std::hint::black_box(Vec::with_capacity(1 << 20)));
            }
        }
        Way::Deadline => {
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        Way::Output => loop {
            let _ = std::io::stdout().write_all(&[b'x'; 1_000]);
        },
        Way::Host if wasip2::random::random::get_random_u64() % 2 == 0 => say("away", &event),
        Way::Host => done(&event),
    }
});

fn done(event: &Event) -> Answer {
    say("results", event)
}

/// Publishes the event's id.
fn say(queue: &str, about: &Event) -> Answer {
    publish(queue, &event("done", &format!("\"{}\"", about.id)), Schedule::Now).unwrap();
    Ok(())
}

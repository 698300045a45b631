//! Says which event it handles, for which time, and what its configuration tells it to.
use weir_guests::config;

weir_guests::handler!(|event, delivery| {
    println!("handled {} attempt {} queue {} {}", event.id, delivery.attempt, delivery.queue, config::get("say"));
    Ok(())
});

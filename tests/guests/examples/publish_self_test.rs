//! Publishes in its self-test, which says what it was told.
use weir_guests::publisher::{Error, Schedule, event, publish_for, publish_now, reply};
use weir_guests::self_test;

weir_guests::handler!(|_, _| publish_now(&event("t", "{}")).or_else(|error| weir_guests::reject(format!("{error:?}"))));

struct SelfTest;

impl self_test::Guest for SelfTest {
    fn run() -> Result<(), String> {
        let event = event("t", "{}");
        let told = [publish_now(&event), publish_for(0, "events", &event, Schedule::Now), reply(&event)];
        let denied = told.iter().filter(|told| matches!(told, Err(Error::Denied(_)))).count();
        Err(format!("{denied} denied: {:?}", told[0]))
    }
}

weir_guests::self_test::export!(SelfTest with_types_in weir_guests::self_test);

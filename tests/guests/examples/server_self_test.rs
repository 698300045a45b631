//! Says in its self-test that it can't work.
use weir_guests::self_test;

weir_guests::handler!(|_, _| Ok(()));

struct SelfTest;

impl self_test::Guest for SelfTest {
    fn run() -> Result<(), String> {
        Err("no rules".to_owned())
    }
}

weir_guests::self_test::export!(SelfTest with_types_in weir_guests::self_test);

//! Has a self-test that ends as the test says.
use weir_guests::{config, email, self_test};

weir_guests::handler!(|_, _| Ok(()));

struct SelfTest;

impl self_test::Guest for SelfTest {
    fn run() -> Result<(), String> {
        match config::get("self-test").as_str() {
            "ok" => Ok(()),
            "error" => Err("no rules".to_owned()),
            "panic" => panic!("no rules at all"),
            "loop" => loop {
                std::hint::spin_loop();
            },
            "mail" => match email::send(&email::message("ann@example.com", "hello")) {
                Err(email::Error::Denied(text)) => Err(format!("denied: {text}")),
                other => Err(format!("{other:?}")),
            },
            other => Err(format!("`self-test` is `{other}`")),
        }
    }
}

weir_guests::self_test::export!(SelfTest with_types_in weir_guests::self_test);

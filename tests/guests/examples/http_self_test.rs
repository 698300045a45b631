//! Makes a request while it is probed, and fails with what came of it.
struct SelfTest;

impl weir_guests::self_test::Guest for SelfTest {
    fn run() -> Result<(), String> {
        let came = weir_guests::web::begin("GET", &weir_guests::config::get("url"), &[], b"");
        Err(format!("{:?}", came.map(|response| response.status())))
    }
}

weir_guests::self_test::export!(SelfTest with_types_in weir_guests::self_test);

weir_guests::handler!(|_, _| Ok(()));

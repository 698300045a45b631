//! Reads and writes in its self-test, which says what it was told.
use weir_guests::keyvalue::draft2::{atomics, store};
use weir_guests::self_test;

weir_guests::handler!(|_, _| store::open("b").unwrap().set("k", b"v").or_else(|error| weir_guests::reject(format!("{error:?}"))));

struct SelfTest;

impl self_test::Guest for SelfTest {
    fn run() -> Result<(), String> {
        let bucket = store::open("b").map_err(|error| format!("{error:?}"))?;
        let told = (bucket.get("k"), bucket.list_keys(None), bucket.set("k", b"v"), atomics::increment(&bucket, "n", 1));
        Err(format!("{told:?} {:?}", store::open("c").map(|_| ())))
    }
}

weir_guests::self_test::export!(SelfTest with_types_in weir_guests::self_test);

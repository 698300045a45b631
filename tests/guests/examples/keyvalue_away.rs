//! Writes the value that it finds in its configuration, and asks for another try when that fails; without one it reads.
use weir_guests::keyvalue::draft2::store;

weir_guests::handler!(|_, _| {
    let bucket = store::open("b").unwrap();
    let value = weir_guests::config::get("value");
    let done =
        if value.is_empty() { bucket.get("k").map(|found| println!("{found:?}")) } else { bucket.set("k", value.as_bytes()) };
    done.or_else(|error| weir_guests::retry(&format!("{error:?}"), None))
});

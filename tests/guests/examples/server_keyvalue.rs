//! Counts its events in bucket `b`, and says the number and the keys that are there.
use weir_guests::keyvalue::draft2::{atomics, store};

weir_guests::handler!(|event, _| {
    let bucket = store::open("b").unwrap();
    let counted = bucket.set(&event.id, b"seen").and_then(|()| atomics::increment(&bucket, "n", 1));
    match counted {
        Ok(number) => println!("counted {} as {number} of {:?}", event.id, bucket.list_keys(None).map(|page| page.keys)),
        Err(error) => return weir_guests::retry(&format!("{error:?}"), None),
    }
    Ok(())
});

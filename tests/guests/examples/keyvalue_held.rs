//! Begins swaps of a large value, and lets none go; then lets all go and begins another.
use weir_guests::keyvalue::draft2::{atomics::Cas, store};

weir_guests::handler!(|_, _| {
    let bucket = store::open("b").unwrap();
    bucket.set("k", &vec![0; 1 << 20]).unwrap();
    let mut held = Vec::new();
    let refused = loop {
        match Cas::new(&bucket, "k") {
            Ok(cas) => held.push(cas),
            Err(error) => break error,
        }
    };
    println!("{} {refused:?}", held.len());
    held.clear();
    println!("{:?}", Cas::new(&bucket, "k").map(|_| ()));
    Ok(())
});

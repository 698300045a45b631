//! Calls `wasi:keyvalue/atomics` in its first draft: numbers without a sign.
use weir_guests::keyvalue::draft::{atomics::increment, store};

weir_guests::handler!(|_, _| {
    let bucket = store::open("b").unwrap();
    println!("{:?} {:?}", increment(&bucket, "n", 5), increment(&bucket, "n", u64::MAX / 2 - 5));
    println!("{:?} {:?}", increment(&bucket, "n", 1), increment(&bucket, "m", u64::MAX));
    bucket.set("text", b"one").unwrap();
    bucket.set("below", b"-2").unwrap();
    println!("{:?} {:?}", increment(&bucket, "text", 1), increment(&bucket, "below", 1));
    println!("{:?}", bucket.get("n").unwrap().map(String::from_utf8));
    Ok(())
});

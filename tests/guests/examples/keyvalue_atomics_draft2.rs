//! Calls `wasi:keyvalue/atomics` in its second draft: numbers with a sign, and compare-and-swap.
use weir_guests::keyvalue::draft2::{
    atomics::{Cas, CasError, increment, swap},
    store,
};

weir_guests::handler!(|_, _| {
    let bucket = store::open("b").unwrap();
    println!("{:?} {:?}", increment(&bucket, "n", 5), increment(&bucket, "n", -7));
    println!("{:?}", increment(&bucket, "n", i64::MIN));
    let (first, second) = (Cas::new(&bucket, "c").unwrap(), Cas::new(&bucket, "c").unwrap());
    println!("{:?} {:?}", first.current(), swap(first, b"1").is_ok());
    match swap(second, b"2") {
        Err(CasError::CasFailed(newer)) => println!("failed {:?} {:?}", newer.current(), swap(newer, b"3").is_ok()),
        other => println!("{other:?}"),
    }
    println!("{:?}", bucket.get("c"));
    println!("{:?}", Cas::new(&bucket, "").map(|_| ()));
    Ok(())
});

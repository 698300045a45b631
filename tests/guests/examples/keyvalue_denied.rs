//! Opens buckets that are not granted.
use weir_guests::keyvalue::{draft, draft2};

weir_guests::handler!(|_, _| {
    println!("{:?} {:?}", draft::store::open("mine").map(|_| ()), draft2::store::open("c").map(|_| ()));
    println!("{:?}", draft2::store::open("b").map(|_| ()));
    Ok(())
});

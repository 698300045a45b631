//! Names keys without end.
use weir_guests::keyvalue::draft2::{batch, store};

weir_guests::handler!(|_, _| {
    let bucket = store::open("b").unwrap();
    let keys = vec!["k".to_owned(); 1_000];
    loop {
        let _ = batch::get_many(&bucket, &keys);
    }
});

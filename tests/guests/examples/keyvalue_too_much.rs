//! Reads a large value without end.
use weir_guests::keyvalue::draft2::{batch, store};

weir_guests::handler!(|_, _| {
    let bucket = store::open("b").unwrap();
    bucket.set("k", &vec![0; 1 << 20]).unwrap();
    let keys = vec!["k".to_owned(); 4];
    loop {
        let _ = batch::get_many(&bucket, &keys);
    }
});

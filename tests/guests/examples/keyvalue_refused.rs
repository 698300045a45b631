//! Asks for more than a key, a value, a call and a bucket may have.
use weir_guests::keyvalue::draft2::{batch, store};

weir_guests::handler!(|_, _| {
    let bucket = store::open("b").unwrap();
    println!("{:?}", bucket.set("", b"v"));
    println!("{:?}", bucket.get(&"k".repeat(1_025)));
    println!("{:?}", bucket.set("k", &vec![0; (1 << 20) + 1]));
    println!("{:?}", batch::get_many(&bucket, &vec!["k".to_owned(); 1_001]));
    println!("{:?}", bucket.set("1", &vec![0; 1 << 20]));
    println!("{:?}", bucket.set("2", &vec![0; 1 << 20]));
    println!("{:?} {:?}", bucket.exists("1"), bucket.exists("2"));
    println!("{:?}", batch::get_many(&bucket, &vec!["1".to_owned(); 5]));
    Ok(())
});

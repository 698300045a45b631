//! `wasi:keyvalue` in its two drafts, and what a guest of either asks of it: the same calls, so that both answer alike.

pub mod draft {
    wit_bindgen::generate!({ path: "../../wit/wasi-keyvalue-0.2.0-draft", world: "wasi:keyvalue/imports" });
    pub use wasi::keyvalue::{atomics, batch, store};
}

pub mod draft2 {
    wit_bindgen::generate!({ path: "../../wit/wasi-keyvalue-0.2.0-draft2", world: "wasi:keyvalue/imports" });
    pub use wasi::keyvalue::{atomics, batch, store};
}

/// Every function of `store`, each result a line; lists from this cursor too, which is none.
#[macro_export]
macro_rules! keyvalue_store {
    ($shape:ident, $wrong:expr) => {
        $crate::handler!(|_, _| {
            let bucket = $crate::keyvalue::$shape::store::open("b").unwrap();
            println!("get {:?}", bucket.get("a"));
            println!("set {:?}", bucket.set("a", b"1"));
            println!("set {:?}", bucket.set("b", &[0, 255]));
            println!("set {:?}", bucket.set("a", b"2"));
            println!("get {:?} {:?}", bucket.get("a"), bucket.get("b"));
            println!("exists {:?} {:?}", bucket.exists("a"), bucket.exists("c"));
            println!("list {:?}", bucket.list_keys(None));
            println!("delete {:?} {:?}", bucket.delete("a"), bucket.delete("c"));
            println!("exists {:?}", bucket.exists("a"));
            println!("list {:?}", bucket.list_keys(None));
            println!("list {:?}", bucket.list_keys($wrong));
            drop(bucket);
            println!("get {:?}", $crate::keyvalue::$shape::store::open("b").unwrap().get("b"));
            Ok(())
        });
    };
}

/// Every function of `batch`, and pages of keys over what goes meanwhile.
#[macro_export]
macro_rules! keyvalue_batch {
    ($shape:ident, $cursor:expr) => {
        $crate::handler!(|_, _| {
            use $crate::keyvalue::$shape::{batch, store};
            let bucket = store::open("b").unwrap();
            let entry = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
            println!("set {:?}", batch::set_many(&bucket, &[entry("a", "1"), entry("b", "2"), entry("a", "3")]));
            let keys = ["b", "none", "a"].map(str::to_owned);
            println!("get {:?}", batch::get_many(&bucket, &keys));
            println!("delete {:?}", batch::delete_many(&bucket, &keys));
            println!("get {:?}", batch::get_many(&bucket, &keys));
            println!("none {:?} {:?}", batch::get_many(&bucket, &[]), batch::set_many(&bucket, &[]));
            let many: Vec<_> = (0..1_000).map(|number| entry(&number.to_string(), "v")).collect();
            println!("set {:?} {:?}", batch::set_many(&bucket, &many), bucket.set("last", b"v"));
            let page = bucket.list_keys(None).unwrap();
            println!("page {} {}", page.keys.len(), page.cursor.is_some());
            println!("delete {:?}", batch::delete_many(&bucket, &page.keys));
            let next = bucket.list_keys($cursor(&page.cursor)).unwrap();
            println!("page {:?} {}", next.keys, next.cursor.is_some());
            Ok(())
        });
    };
}

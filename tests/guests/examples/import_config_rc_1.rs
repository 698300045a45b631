//! Reads its configuration through `wasi:config/store` in one of its three versions.
use weir_guests::config::rc_1::{get, get_all};

weir_guests::handler!(|_, _| {
    println!("{:?} {:?}", get("name"), get("nothing"));
    println!("{:?}", get_all());
    Ok(())
});

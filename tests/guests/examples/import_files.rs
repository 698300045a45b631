//! Tries every way to a file and says what each came to.
use std::fs;

weir_guests::handler!(|_, _| {
    println!("read: {:?}", fs::read("/etc/passwd").map(drop).map_err(|_| "no"));
    println!("relative: {:?}", fs::read("Cargo.toml").map(drop).map_err(|_| "no"));
    println!("up: {:?}", fs::read("../../../../etc/passwd").map(drop).map_err(|_| "no"));
    println!("list: {:?}", fs::read_dir("/").map(drop).map_err(|_| "no"));
    println!("write: {:?}", fs::write(weir_guests::config::get("file"), "x").map_err(|_| "no"));
    println!("preopens: {}", wasip2::filesystem::preopens::get_directories().len());
    Ok(())
});

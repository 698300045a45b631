//! Says what it has of the world: arguments, variables, files, sockets.
use std::io::Read;

fn main() {
    let no = |error: std::io::Error| drop(error);
    println!("arguments: {}", std::env::args().count());
    println!("variables: {}", std::env::vars().count());
    println!("read: {:?}", std::fs::read("/etc/passwd").map(drop).map_err(no));
    println!("relative: {:?}", std::fs::read("Cargo.toml").map(drop).map_err(no));
    println!("write: {:?}", std::fs::write("out", "x").map_err(no));
    println!("socket: {:?}", std::net::TcpStream::connect("127.0.0.1:1").map(drop).map_err(no));
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).unwrap();
    println!("after its end: {:?}", std::io::stdin().read(&mut [0; 8]).map_err(no));
}

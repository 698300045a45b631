//! Tries every way out over sockets and says what each came to.
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

weir_guests::handler!(|_, _| {
    let address = weir_guests::config::get("address");
    println!("connect: {:?}", TcpStream::connect(&address).map(drop).map_err(|error| error.kind()));
    println!("listen: {:?}", TcpListener::bind("127.0.0.1:0").map(drop).map_err(|error| error.kind()));
    println!("udp: {:?}", UdpSocket::bind("127.0.0.1:0").map(drop).map_err(|error| error.kind()));
    println!("name: {:?}", "localhost:80".to_socket_addrs().map(drop).map_err(|_| "no"));
    Ok(())
});

//! Imports sockets, files, HTTP, clocks, random, environment and stdio, as language runtimes do, and uses none of them.
weir_guests::handler!(|event, _| {
    if event.type_ == "use everything" {
        use_everything();
    }
    Ok(())
});

#[inline(never)]
fn use_everything() {
    use wasip2::http::{outgoing_handler, types};
    let _ = std::net::TcpStream::connect("127.0.0.1:1");
    let _ = std::net::UdpSocket::bind("127.0.0.1:0");
    let _ = std::fs::read("/etc/passwd");
    let _ = std::fs::read_dir("/");
    let _ = std::io::stdin().lines().count();
    let _ = outgoing_handler::handle(types::OutgoingRequest::new(types::Fields::new()), None);
    println!(
        "{:?}",
        (std::env::vars().count(), std::env::args().count(), std::time::Instant::now(), std::time::SystemTime::now())
    );
    println!("{:?}", wasip2::random::random::get_random_u64());
}

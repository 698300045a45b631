//! Tries to open sockets and look names up, again and again, as often as the test says.
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::IpAddressFamily;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

weir_guests::handler!(|_, _| {
    let network = instance_network();
    for _ in 0..weir_guests::config::get("many").parse().unwrap() {
        let _ = create_tcp_socket(IpAddressFamily::Ipv4);
        let _ = create_udp_socket(IpAddressFamily::Ipv6);
        let _ = resolve_addresses(&network, "example.com");
    }
    Ok(())
});

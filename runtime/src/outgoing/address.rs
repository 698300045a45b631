//! Which addresses a name may lead to. Pure.
//!
//! A name is somebody else's to change: one that is granted and then leads into the operator's own network must not take a request there.
//! An address that a grant names itself is meant, and so is the loopback for `localhost`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::target::Host;

/// Network, bits of it that count, and what it is for (the registries of special-purpose addresses, RFC 6890).
const BLOCKED_4: [(Ipv4Addr, u32, &str); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// The same for version 6. What carries an address of version 4 (mapped, translated, 6to4, Teredo) is blocked whatever it carries.
const BLOCKED_6: [(Ipv6Addr, u32, &str); 14] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::UNSPECIFIED, 96, "version 4 in version 6"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "version 4 in version 6"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, "translated"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "translated"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "discarded"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "documentation"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "version 4 in version 6"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "unique-local"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// What of version 6 is given out to the world; the rest is reserved, or somebody's own.
const GLOBAL_6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// The range that an address is blocked for; none: it is one of the world's.
#[must_use]
pub fn blocked(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            let within = |network: Ipv4Addr, bits: u32| (address.to_bits() ^ network.to_bits()) >> (32 - bits) == 0;
            BLOCKED_4.iter().find(|(network, bits, _)| within(*network, *bits)).map(|(.., name)| *name)
        }
        IpAddr::V6(address) => {
            let within = |network: Ipv6Addr, bits: u32| (address.to_bits() ^ network.to_bits()) >> (128 - bits) == 0;
            let named = BLOCKED_6.iter().find(|(network, bits, _)| within(*network, *bits)).map(|(.., name)| *name);
            named.or_else(|| (!within(GLOBAL_6.0, GLOBAL_6.1)).then_some("reserved"))
        }
    }
}

/// Whether all of what a granted host leads to may be connected to.
///
/// # Errors
/// The first address that may not, and its range.
pub fn check(host: &Host, addresses: &[IpAddr]) -> Result<(), (IpAddr, &'static str)> {
    let named = |address: &IpAddr| match host {
        Host::Address(granted) => granted == address,
        Host::Name(name) => address.is_loopback() && (name == "localhost" || name.ends_with(".localhost")),
    };
    let refused = addresses.iter().find_map(|address| {
        let range = blocked(*address).filter(|_| !named(address))?;
        Some((*address, range))
    });
    refused.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (address, expected) in [
            ("0.0.0.0", Some("unspecified")),
            ("0.1.2.3", Some("unspecified")),
            ("10.0.0.1", Some("private")),
            ("10.255.255.255", Some("private")),
            ("11.0.0.0", None),
            ("9.255.255.255", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some("shared")),
            ("100.127.255.255", Some("shared")),
            ("100.128.0.0", None),
            ("127.0.0.1", Some("loopback")),
            ("127.255.255.255", Some("loopback")),
            ("169.254.169.254", Some("link-local")),
            ("172.15.255.255", None),
            ("172.16.0.1", Some("private")),
            ("172.31.255.255", Some("private")),
            ("172.32.0.0", None),
            ("192.0.0.8", Some("reserved")),
            ("192.0.2.1", Some("documentation")),
            ("192.88.99.1", Some("reserved")),
            ("192.168.0.1", Some("private")),
            ("192.169.0.1", None),
            ("198.18.0.1", Some("benchmarking")),
            ("198.19.255.255", Some("benchmarking")),
            ("198.20.0.0", None),
            ("198.51.100.1", Some("documentation")),
            ("203.0.113.1", Some("documentation")),
            ("224.0.0.1", Some("multicast")),
            ("239.255.255.255", Some("multicast")),
            ("240.0.0.1", Some("reserved")),
            ("255.255.255.255", Some("broadcast")),
            ("8.8.8.8", None),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("::7f00:1", Some("version 4 in version 6")),
            ("::ffff:127.0.0.1", Some("version 4 in version 6")),
            ("::ffff:8.8.8.8", Some("version 4 in version 6")),
            ("64:ff9b::7f00:1", Some("translated")),
            ("64:ff9b:1::1", Some("translated")),
            ("100::1", Some("discarded")),
            ("2001::1", Some("reserved")),
            ("2001:db8::1", Some("documentation")),
            ("2002:7f00:1::", Some("version 4 in version 6")),
            ("3fff::1", Some("documentation")),
            ("4000::1", Some("reserved")),
            ("fc00::1", Some("unique-local")),
            ("fdff::1", Some("unique-local")),
            ("fe80::1", Some("link-local")),
            ("fec0::1", Some("reserved")),
            ("ff02::1", Some("multicast")),
            ("2606:4700::1111", None),
            ("2a00:1450::1", None),
        ] {
            assert_eq!(blocked(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn what_a_grant_names_is_meant() {
        let name = |name: &str| Host::Name(name.to_owned());
        let address = |address: &str| Host::Address(address.parse().unwrap());
        for (host, addresses, good) in [
            (name("example.com"), &["93.184.216.34"][..], true),
            (name("example.com"), &["93.184.216.34", "10.0.0.1"], false),
            (name("example.com"), &["127.0.0.1"], false),
            (name("example.com"), &["::ffff:10.0.0.1"], false),
            (name("localhost"), &["127.0.0.1", "::1"], true),
            (name("localhost"), &["10.0.0.1"], false),
            (name("app.localhost"), &["127.0.0.1"], true),
            (name("evil-localhost"), &["127.0.0.1"], false),
            (address("127.0.0.1"), &["127.0.0.1"], true),
            (address("10.0.0.1"), &["10.0.0.1"], true),
            (address("10.0.0.1"), &["10.0.0.2"], false),
        ] {
            let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(check(&host, &addresses).is_ok(), good, "{host} {addresses:?}");
        }
    }
}

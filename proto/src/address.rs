//! The address by which rate limits count a client.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The rate-limit key of a client address: the IPv4 address, or the /64 prefix of an IPv6 address, because one customer usually
/// holds a whole /64. An IPv6 address that translates an IPv4 address gives that IPv4 address, because all clients of a NAT64 or of a
/// Teredo server share one prefix.
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => translated(six)
            .map_or_else(|| IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & u128::MAX << 64)), IpAddr::V4),
        four => four,
    }
}

/// The IPv4 address of the client in an address of NAT64 (RFC 6052), 6to4 (RFC 3056) or Teredo (RFC 4380, where it is inverted).
fn translated(six: Ipv6Addr) -> Option<Ipv4Addr> {
    let four = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match six.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(four(high, low)),
        [0x2002, high, low, ..] => Some(four(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(four(!high, !low)),
        _ => None,
    }
}

/// The address to listen on that `text` names: `IP:PORT`, or `localhost:PORT` for 127.0.0.1.
///
/// # Errors
/// The expected form, for other texts.
pub fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    match local {
        Some(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        None => SocketAddr::from_str(text).map_err(|_| {
            "expected IP:PORT, such as 127.0.0.1:8080 or [::1]:8080; 0.0.0.0:8080 is all addresses of this machine"
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_prefix_share_a_key() {
        let counted = |address: &str| counted(address.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:1:2:ffff::9"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:3::1"), "2001:db8:1:3::");
        assert_eq!(counted("192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn an_ipv4_client_behind_a_translation_counts_by_its_own_address() {
        let translated = [
            ("NAT64", "64:ff9b::192.0.2.1", "192.0.2.1"),
            ("NAT64, another client", "64:ff9b::192.0.2.2", "192.0.2.2"),
            ("6to4", "2002:c000:0201:5:6:7:8:9", "192.0.2.1"),
            ("Teredo", "2001:0:4136:e378:8000:63bf:3fff:fdfe", "192.0.2.1"),
            ("mapped", "::ffff:192.0.2.1", "192.0.2.1"),
            ("a neighbour of NAT64", "64:ff9b:0:1::9", "64:ff9b:0:1::"),
            ("a neighbour of Teredo", "2001:1::9", "2001:1::"),
        ];
        for (what, address, want) in translated {
            assert_eq!(counted(address.parse().unwrap()).to_string(), want, "{what}");
        }
    }
}

//! Trusted networks: the value of `--trusted-proxy`. Pure. Used by `client`.

use std::{net::IpAddr, str::FromStr};

/// A trusted address or network, `IP` or `IP/BITS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: u128,
    mask: u128,
}

/// An invalid network. The message states the expected form and does not contain the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// Not an address, or an invalid prefix length.
    #[error("expected an IP address, or one with /BITS behind it")]
    Malformed,
    /// A prefix so short that any client could be a proxy.
    #[error(
        "a trusted network has at least 8 bits (IPv4) or 16 bits (IPv6): any client could name any address"
    )]
    TooWide,
}

impl Network {
    /// Whether `address` belongs to the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        bits(address) & self.mask == self.base
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork::Malformed)?;
        let (width, shortest) = if address.is_ipv4() { (32, 8) } else { (128, 16) };
        let length: u32 = length.map_or(Ok(width), str::parse).map_err(|_| InvalidNetwork::Malformed)?;
        if length > width {
            return Err(InvalidNetwork::Malformed);
        }
        if length < shortest {
            return Err(InvalidNetwork::TooWide);
        }
        let mask = u128::MAX << (width - length);
        Ok(Self { base: bits(address) & mask, mask })
    }
}

/// The address as 128 bits. IPv4 addresses in their mapped form.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_or_a_prefix_within_the_bounds() {
        let within = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(within("10.1.2.3", "10.1.2.3") && !within("10.1.2.3", "10.1.2.4"));
        assert!(within("10.0.0.0/8", "10.255.0.1") && !within("10.0.0.0/8", "11.0.0.1"));
        assert!(within("10.9.9.9/24", "10.9.9.200") && within("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(within("fd00::/16", "fd00:1::1") && !within("fd00::/16", "fe80::1"));
        for bad in ["", "x", "10.0.0.1/", "10.0.0.1/33", "::1/129", "10.0.0.1/-1", "10.0.0.1/8/8"] {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork::Malformed), "{bad}");
        }
        for wide in ["0.0.0.0/0", "10.0.0.0/7", "::/0", "::/15"] {
            assert_eq!(wide.parse::<Network>(), Err(InvalidNetwork::TooWide), "{wide}");
        }
    }
}

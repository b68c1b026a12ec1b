//! Which address a request comes from, and whether it came over TLS, when reverse proxies may stand before us. Called by
//! the door and the login limit.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use actix_web::http::header::{HeaderMap, HeaderName};
use proto::{address, identity::is_forbidden_header};

/// A trusted address or network, `IP` or `IP/BITS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: u128,
    mask: u128,
}

/// A network that cannot be trusted. Says what is expected and never repeats the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotANetwork {
    /// Not an address, or not a prefix length.
    #[error("expected an IP address, or one with /BITS behind it")]
    Malformed,
    /// A prefix so short that anybody could be a proxy.
    #[error("a trusted network has at least 8 bits (IPv4) or 16 bits (IPv6): anybody could name any address")]
    TooWide,
}

/// Where a request really comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// The client's address; none when the peer has none (not a TCP socket).
    pub(crate) address: Option<IpAddr>,
    /// Whether the client speaks TLS, to a proxy.
    pub(crate) https: bool,
    /// Whether the peer is a trusted proxy.
    pub(crate) proxied: bool,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl Network {
    /// Whether `address` belongs to the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        bits(address) & self.mask == self.base
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork::Malformed)?;
        let (width, shortest) = if address.is_ipv4() { (32, 8) } else { (128, 16) };
        let length: u32 = length.map_or(Ok(width), str::parse).map_err(|_| NotANetwork::Malformed)?;
        if length > width {
            return Err(NotANetwork::Malformed);
        }
        if length < shortest {
            return Err(NotANetwork::TooWide);
        }
        let mask = u128::MAX << (width - length);
        Ok(Self { base: bits(address) & mask, mask })
    }
}

impl Client {
    /// The client behind `peer`, whose word counts only if it is trusted.
    pub(crate) fn of(peer: Option<SocketAddr>, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let peer = peer.map(|peer| peer.ip().to_canonical());
        let known = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        match peer {
            Some(proxy) if known(proxy) => Self {
                address: Some(forwarded_for(proxy, headers, known)),
                https: last(headers, &FORWARDED_PROTO)
                    .is_some_and(|proto| proto.eq_ignore_ascii_case("https")),
                proxied: true,
            },
            address => Self { address, https: false, proxied: false },
        }
    }

    /// What the client is counted by, see [`proto::address`].
    pub(crate) fn counted(self) -> Option<IpAddr> {
        self.address.map(address::counted)
    }
}

/// Removes what a client must not say: who it is, and, unless a trusted proxy says it, where it comes from.
pub(crate) fn strip(headers: &mut HeaderMap, proxied: bool) {
    let forged: Vec<_> = headers.keys().filter(|name| is_refused(name.as_str(), proxied)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

fn is_refused(name: &str, proxied: bool) -> bool {
    let canonical = name.to_ascii_lowercase().replace('_', "-");
    let origin = canonical.starts_with("x-forwarded") || canonical == "forwarded";
    is_forbidden_header(name) || (origin && (!proxied || name.contains('_')))
}

/// The nearest address of the chain that no proxy of ours has; a chain with a malformed link ends before it.
fn forwarded_for(proxy: IpAddr, headers: &HeaderMap, known: impl Fn(IpAddr) -> bool) -> IpAddr {
    let values: Vec<&str> =
        headers.get_all(&FORWARDED_FOR).map(|value| value.to_str().unwrap_or("?")).collect();
    let mut nearest = proxy;
    for hop in values.iter().rev().flat_map(|value| value.rsplit(',')) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { return nearest };
        nearest = address.to_canonical();
        if !known(nearest) {
            return nearest;
        }
    }
    nearest
}

/// The last element of a list header: what the nearest proxy wrote.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get_all(name).last()?.to_str().ok()?.rsplit(',').next().map(str::trim)
}

/// The address as 128 bits, IPv4 in its mapped form.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits(),
    }
}

#[cfg(test)]
mod tests;

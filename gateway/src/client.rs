//! Determines the address of the client of a request, and the scheme that it uses, behind reverse proxies. Called by the
//! middleware, which stores the result in the request.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use proto::{address, identity::is_forbidden_header};

use crate::{
    forwarded::{self, Chain, Scheme},
    network::Network,
};

/// The client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// The client's address. `None` when the peer has no address (not a TCP socket).
    pub(crate) address: Option<IpAddr>,
    /// Whether the client uses TLS. `None` when a trusted proxy does not state the scheme, or its headers disagree.
    pub(crate) https: Option<bool>,
    /// Whether the client is assumed to use TLS: the most likely value when `https` is `None`.
    pub(crate) is_secure: bool,
    /// Whether the peer is a trusted proxy.
    pub(crate) proxied: bool,
    /// Why the address or the scheme may be wrong.
    pub(crate) issue: Option<ForwardingIssue>,
    /// The address before the client's in the chain of a trusted proxy, when the client's address is public. The client may
    /// be a proxy that is not listed: any client can name one address, a proxy names many.
    pub(crate) preceding: Option<IpAddr>,
}

/// Why clients may be counted under an address that is not their own, or why their scheme may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwardingIssue {
    /// A peer that is not trusted sends this forwarding header.
    Untrusted(&'static str),
    /// A trusted proxy sends no client address.
    Absent,
    /// The header contains no address in the client's position.
    Unreadable(&'static str),
    /// Two headers contain different client addresses.
    Contradiction(&'static str, &'static str),
    /// The address is a proxy that is not trusted: it forwards for others, and is private or names many clients.
    Unlisted(IpAddr),
    /// The header of a CDN contains another client address than the headers of the proxies.
    Cdn(&'static str),
    /// A trusted proxy sends a client address only in this header, which is not used.
    Unused(&'static str),
    /// The header contains an unrecognized scheme.
    Scheme(&'static str),
}

/// The result of following one chain from the nearest hop toward the client.
struct Walk {
    header: &'static str,
    /// The farthest address that is certain.
    address: IpAddr,
    end: End,
    /// The element before `address` in the chain. The outer `None` means that `address` is trusted or has no element before
    /// it, the inner `None` an element without an address.
    preceding: Option<Option<IpAddr>>,
}

/// Why a walk ended.
#[derive(PartialEq, Eq)]
enum End {
    /// At an address that is not a trusted proxy.
    Client,
    /// At the end of the chain: all addresses are trusted.
    Trusted,
    /// At an element without an address.
    Unreadable,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl Client {
    /// Determines the client behind `peer`. The headers are used only when `peer` is trusted.
    pub(crate) fn of(peer: Option<SocketAddr>, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let peer = peer.map(|peer| peer.ip().to_canonical());
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let Some(proxy) = peer.filter(|peer| is_trusted(*peer)) else {
            let issue = forwarded::present(headers).map(ForwardingIssue::Untrusted);
            return Self {
                address: peer,
                https: Some(false),
                is_secure: false,
                proxied: false,
                issue,
                preceding: None,
            };
        };
        let (address, issue, preceding) = locate(proxy, headers, is_trusted);
        let (https, is_secure, scheme_issue) = scheme(headers);
        Self {
            address: Some(address),
            https,
            is_secure,
            proxied: true,
            issue: issue.or(scheme_issue),
            preceding,
        }
    }

    /// The address that limits count by ([`proto::address::counted`]: an IPv6 address counts by its /64).
    pub(crate) fn counted(self) -> Option<IpAddr> {
        self.address.map(address::counted)
    }

    /// Whether a proxy has sent the request, trusted or not.
    pub(crate) fn is_behind_proxy(self) -> bool {
        self.proxied || matches!(self.issue, Some(ForwardingIssue::Untrusted(_)))
    }
}

impl ForwardingIssue {
    /// The `reason` label of the metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Untrusted(_) => "untrusted",
            Self::Absent => "absent",
            Self::Unreadable(_) => "unreadable",
            Self::Contradiction(..) => "contradiction",
            Self::Unlisted(_) => "unlisted",
            Self::Cdn(_) => "cdn",
            Self::Unused(_) => "unused",
            Self::Scheme(_) => "scheme",
        }
    }
}

/// Removes identity headers and all forwarding headers, which a client must not send. Behind a trusted proxy the result
/// replaces them, in the one form that services read.
pub(crate) fn replace(headers: &mut HeaderMap, client: Client) {
    let reserved: Vec<_> = headers.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
    let (true, Some(address)) = (client.proxied, client.address) else { return };
    if let Ok(value) = HeaderValue::try_from(address.to_string()) {
        headers.insert(FORWARDED_FOR, value);
    }
    let proto = if client.is_secure { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
}

fn is_reserved(name: &str) -> bool {
    let canonical = name.to_ascii_lowercase().replace('_', "-");
    is_forbidden_header(name) || canonical.starts_with("x-forwarded") || canonical == "forwarded"
}

/// The client's address, why it may be wrong, and the address before it in the chain. Headers with different client
/// addresses cannot all come from the proxy. In that case the proxy's own address counts, so that a client gains nothing by
/// forging a header.
fn locate(
    proxy: IpAddr,
    headers: &HeaderMap,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> (IpAddr, Option<ForwardingIssue>, Option<IpAddr>) {
    let walks: Vec<Walk> =
        forwarded::chains(headers).iter().map(|chain| Walk::along(chain, proxy, &is_trusted)).collect();
    let mut clients = walks.iter().filter(|walk| walk.end == End::Client);
    let Some(first) = clients.next() else {
        let Some(walk) = walks.iter().find(|walk| walk.end == End::Unreadable).or(walks.first()) else {
            let unused = forwarded::vendor_clients(headers).next().map(|chain| chain.header);
            return (proxy, Some(unused.map_or(ForwardingIssue::Absent, ForwardingIssue::Unused)), None);
        };
        let issue = match walk.end {
            End::Unreadable => Some(ForwardingIssue::Unreadable(walk.header)),
            _ => cdn(walk.address, headers),
        };
        return (walk.address, issue, None);
    };
    if let Some(nearest) = walks.first().filter(|walk| walk.end != End::Client) {
        // The header of highest precedence contains no client, so the other header may come from the client.
        let issue = match nearest.end {
            End::Unreadable => ForwardingIssue::Unreadable(nearest.header),
            _ => ForwardingIssue::Contradiction(nearest.header, first.header),
        };
        return (proxy, Some(issue), None);
    }
    if let Some(other) = clients.find(|walk| walk.address != first.address) {
        return (proxy, Some(ForwardingIssue::Contradiction(first.header, other.header)), None);
    }
    if first.preceding.is_some() && is_private(first.address) {
        return (first.address, Some(ForwardingIssue::Unlisted(first.address)), None);
    }
    (first.address, cdn(first.address, headers), first.preceding.flatten())
}

/// A header of a product that contains other addresses than `client`.
fn cdn(client: IpAddr, headers: &HeaderMap) -> Option<ForwardingIssue> {
    let mut others = forwarded::vendor_clients(headers).filter(|chain| !chain.hops.contains(&Some(client)));
    others.next().map(|chain| ForwardingIssue::Cdn(chain.header))
}

/// Whether the client certainly uses TLS, whether it probably does, and a header with an unrecognized scheme.
fn scheme(headers: &HeaderMap) -> (Option<bool>, bool, Option<ForwardingIssue>) {
    let stated = forwarded::schemes(headers);
    let issue = stated.iter().find_map(|scheme| match scheme {
        Scheme::Unreadable(header) => Some(ForwardingIssue::Scheme(header)),
        _ => None,
    });
    let mut readable = stated.iter().filter(|scheme| !matches!(scheme, Scheme::Unreadable(_)));
    let Some(first) = readable.next() else { return (None, false, issue) };
    let is_secure = *first == Scheme::Https;
    (readable.all(|scheme| scheme == first).then_some(is_secure), is_secure, issue)
}

/// Whether the address is not routed on the internet.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let [a, b, ..] = four.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            four.is_private() || four.is_loopback() || four.is_link_local() || is_shared
        }
        IpAddr::V6(six) => six.is_loopback() || six.is_unique_local() || six.is_unicast_link_local(),
    }
}

impl Walk {
    /// Follows the chain from its nearest hop until an address is not trusted.
    fn along(chain: &Chain, proxy: IpAddr, is_trusted: impl Fn(IpAddr) -> bool) -> Self {
        let mut walk = Self { header: chain.header, address: proxy, end: End::Trusted, preceding: None };
        for (index, hop) in chain.hops.iter().enumerate().rev() {
            let Some(address) = hop else {
                walk.end = End::Unreadable;
                break;
            };
            walk.address = *address;
            if !is_trusted(*address) {
                walk.end = End::Client;
                walk.preceding = index.checked_sub(1).map(|before| chain.hops[before]);
                break;
            }
        }
        walk
    }
}

#[cfg(test)]
mod tests;

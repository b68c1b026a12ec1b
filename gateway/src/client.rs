//! Which address a request comes from, and which scheme and host its client used, where reverse proxies may stand in front.
//! Called by the door, which keeps the result with the request.

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
    /// The client's address; none when the peer has none (not a TCP socket).
    pub(crate) address: Option<IpAddr>,
    /// Whether the client uses TLS, as far as this is certain: none when a trusted proxy does not say it, or says both.
    pub(crate) https: Option<bool>,
    /// Whether the client is taken to use TLS; the best guess where `https` is none.
    pub(crate) is_secure: bool,
    /// Whether the peer is a trusted proxy.
    pub(crate) proxied: bool,
    /// Why the address may be the wrong one.
    pub(crate) doubt: Option<Doubt>,
    /// Whom the client names before itself, where the client may be a proxy that is not trusted: its address is public and stands
    /// in a trusted proxy's chain. Any client can name one, a proxy names many.
    pub(crate) names: Option<IpAddr>,
}

/// Why clients may be counted under an address that is not their own, or their scheme may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// A peer that is not trusted sends headers of a proxy.
    Untrusted,
    /// A trusted proxy names no client.
    Absent,
    /// The header holds no address where the client's should be.
    Unreadable(&'static str),
    /// Two headers name different clients.
    Contradiction(&'static str, &'static str),
    /// The address names clients of its own, and is private or names many: a proxy that is not trusted.
    Unlisted(IpAddr),
    /// The header of a CDN names another client than the proxies do.
    Cdn(&'static str),
    /// The header states no scheme that is known.
    Scheme(&'static str),
}

/// The result of following one chain from the nearest hop to the client.
struct Walk {
    header: &'static str,
    /// The farthest address that is certain.
    address: IpAddr,
    end: End,
    /// The element before the address, where that is not trusted.
    names: Option<Option<IpAddr>>,
}

/// Why a walk ended.
#[derive(PartialEq, Eq)]
enum End {
    /// At an address that is not a trusted proxy.
    Client,
    /// At the end of the chain: all its addresses are trusted.
    Trusted,
    /// At an element without an address.
    Unreadable,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl Client {
    /// The client behind `peer`, whose headers count only if it is trusted.
    pub(crate) fn of(peer: Option<SocketAddr>, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let peer = peer.map(|peer| peer.ip().to_canonical());
        let known = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let Some(proxy) = peer.filter(|peer| known(*peer)) else {
            let doubt = forwarded::is_present(headers).then_some(Doubt::Untrusted);
            return Self {
                address: peer,
                https: Some(false),
                is_secure: false,
                proxied: false,
                doubt,
                names: None,
            };
        };
        let (address, doubt, names) = located(proxy, headers, known);
        let (https, is_secure, odd) = scheme(headers);
        Self { address: Some(address), https, is_secure, proxied: true, doubt: doubt.or(odd), names }
    }

    /// The address that limits count this client by, see [`proto::address`].
    pub(crate) fn counted(self) -> Option<IpAddr> {
        self.address.map(address::counted)
    }
}

impl Doubt {
    /// The `reason` label of the metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Absent => "absent",
            Self::Unreadable(_) => "unreadable",
            Self::Contradiction(..) => "contradiction",
            Self::Unlisted(_) => "unlisted",
            Self::Cdn(_) => "cdn",
            Self::Scheme(_) => "scheme",
        }
    }
}

/// Removes what a client must not send: its identity, and every header of proxies. What a trusted proxy sent is replaced by
/// the one result, in the one form that services read.
pub(crate) fn replace(headers: &mut HeaderMap, client: Client) {
    let forged: Vec<_> = headers.keys().filter(|name| is_refused(name.as_str())).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
    let (true, Some(address)) = (client.proxied, client.address) else { return };
    if let Ok(value) = HeaderValue::try_from(address.to_string()) {
        headers.insert(FORWARDED_FOR, value);
    }
    let proto = if client.is_secure { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
}

fn is_refused(name: &str) -> bool {
    let canonical = name.to_ascii_lowercase().replace('_', "-");
    is_forbidden_header(name) || canonical.starts_with("x-forwarded") || canonical == "forwarded"
}

/// The client's address, why it may be wrong, and whom it names before itself. Headers that name different clients cannot all come from the proxy: then the
/// proxy's own address counts, so that a client gains nothing by forging one.
fn located(
    proxy: IpAddr,
    headers: &HeaderMap,
    known: impl Fn(IpAddr) -> bool,
) -> (IpAddr, Option<Doubt>, Option<IpAddr>) {
    let walks: Vec<Walk> =
        forwarded::chains(headers).iter().map(|chain| Walk::along(chain, proxy, &known)).collect();
    let mut clients = walks.iter().filter(|walk| walk.end == End::Client);
    let Some(first) = clients.next() else {
        let Some(walk) = walks.iter().find(|walk| walk.end == End::Unreadable).or(walks.first()) else {
            return (proxy, Some(Doubt::Absent), None);
        };
        let doubt = match walk.end {
            End::Unreadable => Some(Doubt::Unreadable(walk.header)),
            _ => cdn(walk.address, headers),
        };
        return (walk.address, doubt, None);
    };
    if let Some(nearest) = walks.first().filter(|walk| walk.end != End::Client) {
        // The header that counts most names no client, so the one that does may be the client's own.
        let doubt = match nearest.end {
            End::Unreadable => Doubt::Unreadable(nearest.header),
            _ => Doubt::Contradiction(nearest.header, first.header),
        };
        return (proxy, Some(doubt), None);
    }
    if let Some(other) = clients.find(|walk| walk.address != first.address) {
        return (proxy, Some(Doubt::Contradiction(first.header, other.header)), None);
    }
    if first.names.is_some() && is_private(first.address) {
        return (first.address, Some(Doubt::Unlisted(first.address)), None);
    }
    (first.address, cdn(first.address, headers), first.names.flatten())
}

/// The header of a CDN that names another client than this.
fn cdn(client: IpAddr, headers: &HeaderMap) -> Option<Doubt> {
    let mut cdns = forwarded::of_cdns(headers);
    cdns.find(|(_, named)| *named != Some(client)).map(|(header, _)| Doubt::Cdn(header))
}

/// Whether TLS is used for certain, whether it probably is, and a header whose value is unknown.
fn scheme(headers: &HeaderMap) -> (Option<bool>, bool, Option<Doubt>) {
    let said = forwarded::schemes(headers);
    let odd = said.iter().find_map(|scheme| match scheme {
        Scheme::Unreadable(header) => Some(Doubt::Scheme(header)),
        _ => None,
    });
    let mut known = said.iter().filter(|scheme| !matches!(scheme, Scheme::Unreadable(_)));
    let Some(first) = known.next() else { return (None, false, odd) };
    let is_secure = *first == Scheme::Https;
    (known.all(|scheme| scheme == first).then_some(is_secure), is_secure, odd)
}

/// Addresses that no client on the internet has.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let [a, b, ..] = four.octets();
            let shared = a == 100 && (64..128).contains(&b);
            four.is_private() || four.is_loopback() || four.is_link_local() || shared
        }
        IpAddr::V6(six) => six.is_loopback() || six.is_unique_local() || six.is_unicast_link_local(),
    }
}

impl Walk {
    /// Follows the chain from its nearest hop on, over all that are trusted.
    fn along(chain: &Chain, proxy: IpAddr, known: impl Fn(IpAddr) -> bool) -> Self {
        let mut walk = Self { header: chain.header, address: proxy, end: End::Trusted, names: None };
        for (index, hop) in chain.hops.iter().enumerate().rev() {
            let Some(address) = hop else {
                walk.end = End::Unreadable;
                break;
            };
            walk.address = *address;
            if !known(*address) {
                walk.end = End::Client;
                walk.names = index.checked_sub(1).map(|before| chain.hops[before]);
                break;
            }
        }
        walk
    }
}

#[cfg(test)]
mod tests;

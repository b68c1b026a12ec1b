//! The client of a request: its address and scheme, as the connection shows them or trusted reverse proxies state them in
//! `X-Forwarded-*`, `Forwarded` (RFC 7239) and `X-Real-IP`. Pure. Called by the middleware, which stores the result in the
//! request.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use proto::{address, identity::is_forbidden_header};

use crate::network::Network;

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
    /// Why many clients may have this address.
    pub(crate) doubt: Option<Doubt>,
}

/// Why many clients may be counted under one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Doubt {
    #[error(
        "a peer that is not trusted sends headers of a proxy: they are ignored, and all of its clients count as one; if it is \
         your proxy, name its address with --trusted-proxy"
    )]
    Untrusted,
    #[error(
        "a trusted proxy names no client: all of its clients count as one; let it send X-Forwarded-For with the address of the \
         client"
    )]
    Nameless,
    #[error(
        "the headers of a trusted proxy name different clients, so its own address counts; let it set X-Forwarded-For, and \
         remove Forwarded and X-Real-IP or set them as well"
    )]
    Contradiction,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED_PORT: &str = "x-forwarded-port";
const FORWARDED: &str = "forwarded";
const REAL_IP: &str = "x-real-ip";

impl Client {
    /// Determines the client behind `peer`. The headers are used only when `peer` is trusted.
    pub(crate) fn of(peer: Option<SocketAddr>, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let peer = peer.map(|peer| peer.ip().to_canonical());
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let Some(proxy) = peer.filter(|peer| is_trusted(*peer)) else {
            let is_proxy = headers.keys().any(|name| is_forwarding(name.as_str()));
            let doubt = is_proxy.then_some(Doubt::Untrusted);
            return Self { address: peer, https: Some(false), is_secure: false, proxied: false, doubt };
        };
        let (address, doubt) = locate(proxy, headers, is_trusted);
        let stated = schemes(headers);
        let is_secure = stated.first().copied().unwrap_or_default();
        let is_certain = !stated.is_empty() && stated.iter().all(|secure| *secure == is_secure);
        let https = is_certain.then_some(is_secure);
        Self { address: Some(address), https, is_secure, proxied: true, doubt }
    }

    /// The address that limits count by ([`proto::address::counted`]: an IPv6 address counts by its /64).
    pub(crate) fn counted(self) -> Option<IpAddr> {
        self.address.map(address::counted)
    }
}

/// Removes identity headers and all forwarding headers, which a client must not send. Behind a trusted proxy the result
/// replaces them, in the one form that services read.
pub(crate) fn replace(headers: &mut HeaderMap, client: Client) {
    let is_reserved = |name: &str| is_forbidden_header(name) || is_forwarding(name);
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

/// The hosts that the client requested, with their ports if present, as a trusted proxy states them.
pub(crate) fn hosts(headers: &HeaderMap) -> Vec<String> {
    let named = elements(headers, FORWARDED_HOST).into_iter().flatten().map(str::to_owned);
    named.chain(forwarded(headers, "host").into_iter().flatten()).collect()
}

/// The ports that the client connected to, as a trusted proxy states them.
pub(crate) fn ports(headers: &HeaderMap) -> Vec<u16> {
    elements(headers, FORWARDED_PORT).into_iter().filter_map(|text| text?.parse().ok()).collect()
}

/// Whether normally only a proxy sends a header of this name (any case, `_` for `-`).
fn is_forwarding(name: &str) -> bool {
    let canonical = name.to_ascii_lowercase().replace('_', "-");
    canonical.starts_with("x-forwarded") || canonical == FORWARDED || canonical == REAL_IP
}

/// The client's address, and why it may be wrong. Each header lists the hops from the client to the nearest proxy, and is
/// read from the nearest one to the first that is not trusted. Headers with different clients cannot all come from the
/// proxy. In that case the proxy's own address counts, so that a client gains nothing by forging a header.
fn locate(
    proxy: IpAddr,
    headers: &HeaderMap,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> (IpAddr, Option<Doubt>) {
    let listed =
        |name| elements(headers, name).into_iter().map(|text| text.and_then(parse_address)).collect();
    let nodes = forwarded(headers, "for");
    let has_node = nodes.iter().any(Option::is_some);
    let nodes = if has_node { nodes } else { Vec::new() };
    let chains: [Vec<Option<IpAddr>>; 3] = [
        listed(FORWARDED_FOR.as_str()),
        nodes.iter().map(|node| parse_address(node.as_deref()?)).collect(),
        listed(REAL_IP),
    ];
    // The last address of a walk, and whether it is a client: not a trusted proxy.
    let walk = |hops: &Vec<Option<IpAddr>>| {
        let mut last = (proxy, false);
        for hop in hops.iter().rev().map_while(|hop| *hop) {
            last = (hop, !is_trusted(hop));
            if last.1 {
                break;
            }
        }
        last
    };
    let walks: Vec<_> = chains.iter().filter(|hops| !hops.is_empty()).map(walk).collect();
    let mut clients = walks.iter().filter(|(_, is_client)| *is_client).map(|(address, _)| *address);
    match (walks.first(), clients.next()) {
        (None, _) => (proxy, Some(Doubt::Nameless)),
        (Some((address, _)), None) => {
            // All of a chain may be trusted: a client on a trusted network.
            let is_readable = chains.iter().flatten().all(Option::is_some);
            (*address, (!is_readable).then_some(Doubt::Nameless))
        }
        (Some((first, true)), _) if clients.all(|other| other == *first) => (*first, None),
        _ => (proxy, Some(Doubt::Contradiction)),
    }
}

/// All statements about the client's scheme: whether it is TLS. Within a list the client's side is first.
fn schemes(headers: &HeaderMap) -> Vec<bool> {
    let listed = elements(headers, FORWARDED_PROTO.as_str()).into_iter().flatten().map(str::to_owned);
    let named = listed.chain(forwarded(headers, "proto").into_iter().flatten());
    let secure = named.filter_map(|scheme| match scheme.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    });
    secure.chain(ports(headers).contains(&443).then_some(true)).collect()
}

/// Parses `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:5678`, each also in quotes and with
/// a zone. A mapped IPv4 address becomes the IPv4 address.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    // An obfuscated port begins with `_` (RFC 7239 §6.2).
    let is_port = |text: &str| text.starts_with('_') || text.parse::<u16>().is_ok();
    let bare = match (text.strip_prefix('['), text.split_once(':')) {
        (Some(rest), _) => {
            let (inside, after) = rest.split_once(']')?;
            (after.is_empty() || after.strip_prefix(':').is_some_and(is_port)).then_some(inside)?
        }
        (None, Some((four, port))) if !port.contains(':') => is_port(port).then_some(four)?,
        _ => text,
    };
    let address: IpAddr = bare.split('%').next()?.parse().ok()?;
    Some(address.to_canonical())
}

/// The non-empty elements of a list header over all its lines. `None` for a line that is not text.
fn elements<'a>(headers: &'a HeaderMap, name: &str) -> Vec<Option<&'a str>> {
    let mut elements = Vec::new();
    for line in headers.get_all(name) {
        match line.to_str() {
            Ok(text) => {
                elements.extend(text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(Some));
            }
            Err(_) => elements.push(None),
        }
    }
    elements
}

/// The parameter `name` of each element of all `Forwarded` lines. `None` for an element without it.
fn forwarded(headers: &HeaderMap, name: &str) -> Vec<Option<String>> {
    // An unterminated quoted string of a client would include what the proxy appends.
    let is_readable = |line: &&str| split(line, ',').is_some();
    let lines =
        headers.get_all(FORWARDED).map(|line| line.to_str().ok().filter(is_readable).unwrap_or("for=?"));
    let elements = lines.filter_map(|line| split(line, ',')).flatten().filter(|text| !text.trim().is_empty());
    let parameter = |element| {
        let mut pairs = split(element, ';').into_iter().flatten().filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(found, _)| found.trim().eq_ignore_ascii_case(name));
        found.map(|(_, value)| unquoted(value.trim()))
    };
    elements.map(parameter).collect()
}

/// Splits `text` at separators outside of quoted strings. `None` when a quoted string is not terminated.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    });
    let parts = parts.collect();
    (!quoted).then_some(parts)
}

/// The content of a quoted string. Other text is returned unchanged.
fn unquoted(text: &str) -> String {
    let Some(inside) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut escaped = false;
    let kept = inside.chars().filter(|c| {
        escaped = *c == '\\' && !escaped;
        !escaped
    });
    kept.collect()
}

#[cfg(test)]
mod tests;

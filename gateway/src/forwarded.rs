//! Parses the headers in which proxies describe a client: `X-Forwarded-*`, `Forwarded` (RFC 7239), `X-Real-IP` and those of
//! [`vendor_headers`]. Pure. `client` decides whether the peer is trusted.

use std::net::IpAddr;

use actix_web::http::header::HeaderMap;

use crate::vendor_headers::{self, ADDRESSES, ARR_SSL, CF_VISITOR, CLOUDFRONT, HOSTS, SCHEMES, SWITCHES};

/// The addresses in one header, from the client to the nearest proxy. An element without an address (`unknown`, `_hidden`,
/// anything malformed) is `None`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The name of the header.
    pub(crate) header: &'static str,
    /// One element per hop.
    pub(crate) hops: Vec<Option<IpAddr>>,
}

/// The scheme of the client according to one header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// TLS: `https` or `wss`.
    Https,
    /// Plain text: `http` or `ws`.
    Http,
    /// Any other value. Contains the name of the header.
    Unreadable(&'static str),
}

/// One element of a `Forwarded` header.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    node: Option<String>,
    proto: Option<String>,
    host: Option<String>,
}

/// All products that docs/proxies.md names write this header.
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED: &str = "forwarded";
const REAL_IP: &str = "x-real-ip";
const PORT: &str = "x-forwarded-port";

/// The start of further headers of proxies, and how they are named in warnings.
const GENERIC: (&str, &str) = ("x-forwarded", "x-forwarded-*");

/// A header that normally only a proxy writes, if the request has one.
pub(crate) fn present(headers: &HeaderMap) -> Option<&'static str> {
    let standard = [FORWARDED_FOR, FORWARDED, REAL_IP];
    let vendors =
        ADDRESSES.into_iter().chain(SCHEMES).chain(SWITCHES).chain(HOSTS).chain([ARR_SSL, CF_VISITOR]);
    let mut named = standard.into_iter().chain(vendors);
    let is_generic = || headers.keys().any(|name| name.as_str().starts_with(GENERIC.0));
    named.find(|name| headers.contains_key(*name)).or_else(|| is_generic().then_some(GENERIC.1))
}

/// The chains of addresses, in order of precedence.
pub(crate) fn chains(headers: &HeaderMap) -> Vec<Chain> {
    let mut chains = Vec::new();
    let listed: Vec<_> = elements(headers, FORWARDED_FOR).map(|text| text.and_then(address)).collect();
    let standard = forwarded(headers);
    let real: Vec<_> = elements(headers, REAL_IP).map(|text| text.and_then(address)).collect();
    if !listed.is_empty() {
        chains.push(Chain { header: FORWARDED_FOR, hops: listed });
    }
    if standard.iter().any(|element| element.node.is_some()) {
        let hops = standard.iter().map(|element| address(element.node.as_deref()?)).collect();
        chains.push(Chain { header: FORWARDED, hops });
    }
    if !real.is_empty() {
        chains.push(Chain { header: REAL_IP, hops: real });
    }
    chains
}

/// The addresses in each header of a product that has any, [`ADDRESSES`].
pub(crate) fn vendor_clients(headers: &HeaderMap) -> impl Iterator<Item = Chain> {
    // CloudFront appends a port to an IPv6 address as well, without brackets.
    let bare = |name, text| if name == CLOUDFRONT { without_port(text) } else { text };
    let chain = move |header| {
        let hops = elements(headers, header).map(|text| text.and_then(|text| address(bare(header, text))));
        Chain { header, hops: hops.collect() }
    };
    ADDRESSES.into_iter().map(chain).filter(|chain| !chain.hops.is_empty())
}

/// All statements about the client's scheme. Within a list the client's side is first.
pub(crate) fn schemes(headers: &HeaderMap) -> Vec<Scheme> {
    let mut stated = Vec::new();
    for name in SCHEMES {
        stated.extend(elements(headers, name).map(|text| scheme(name, text.unwrap_or_default())));
    }
    let standard = forwarded(headers);
    stated.extend(standard.iter().filter_map(|element| Some(scheme(FORWARDED, element.proto.as_deref()?))));
    for name in SWITCHES {
        stated.extend(elements(headers, name).map(|text| match text.and_then(vendor_headers::switch) {
            Some(true) => Scheme::Https,
            Some(false) => Scheme::Http,
            None => Scheme::Unreadable(name),
        }));
    }
    stated.extend(headers.get_all(CF_VISITOR).map(|value| {
        let stated = value.to_str().ok().and_then(vendor_headers::visitor_scheme);
        scheme(CF_VISITOR, stated.as_deref().unwrap_or_default())
    }));
    // The value describes the certificate, so its commas separate nothing.
    stated.extend(elements(headers, ARR_SSL).next().map(|_| Scheme::Https));
    stated.extend(ports(headers).filter(|port| *port == 443).map(|_| Scheme::Https));
    stated
}

/// The hosts that the client requested, with their ports if present.
pub(crate) fn hosts(headers: &HeaderMap) -> Vec<String> {
    let named = HOSTS.into_iter().flat_map(|name| elements(headers, name)).flatten().map(str::to_owned);
    let standard = forwarded(headers).into_iter().filter_map(|element| element.host);
    named.chain(standard).collect()
}

/// The ports that the client connected to.
pub(crate) fn ports(headers: &HeaderMap) -> impl Iterator<Item = u16> {
    elements(headers, PORT).filter_map(|text| text?.parse().ok())
}

/// Parses `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:5678`, each also in quotes and with
/// a zone. A mapped IPv4 address becomes the IPv4 address.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
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

fn without_port(text: &str) -> &str {
    text.rsplit_once(':').map_or(text, |(address, _)| address)
}

/// Whether the text is a port number or an obfuscated port (RFC 7239 §6.2).
fn is_port(text: &str) -> bool {
    text.starts_with('_') || text.parse::<u16>().is_ok()
}

fn scheme(header: &'static str, text: &str) -> Scheme {
    match text.to_ascii_lowercase().as_str() {
        "https" | "wss" => Scheme::Https,
        "http" | "ws" => Scheme::Http,
        _ => Scheme::Unreadable(header),
    }
}

/// The non-empty elements of a list header over all its lines. `None` for a line that is not text.
fn elements<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = Option<&'a str>> {
    headers.get_all(name).flat_map(|value| {
        let (text, is_not_text) = value.to_str().map_or(("", true), |text| (text, false));
        let elements = text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(Some);
        elements.chain(is_not_text.then_some(None))
    })
}

/// The elements of all `Forwarded` lines. Malformed pairs are skipped. An element without a valid pair is empty.
fn forwarded(headers: &HeaderMap) -> Vec<Element> {
    // An unterminated quoted string of a client would include what the proxy appends.
    let readable = |line: &&str| split(line, ',').is_some();
    let lines =
        headers.get_all(FORWARDED).map(|value| value.to_str().ok().filter(readable).unwrap_or("for=?"));
    let elements = lines.filter_map(|line| split(line, ',')).flatten().filter(|text| !text.trim().is_empty());
    elements.map(element).collect()
}

fn element(text: &str) -> Element {
    let mut element = Element::default();
    for (name, value) in split(text, ';').into_iter().flatten().filter_map(|pair| pair.split_once('=')) {
        let value = Some(unquoted(value.trim()));
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => element.node = value,
            "proto" => element.proto = value,
            "host" => element.host = value,
            _ => {}
        }
    }
    element
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
    inside
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

#[cfg(test)]
mod tests;

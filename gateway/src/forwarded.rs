//! Parses the headers in which proxies describe a client: `X-Forwarded-*`, `Forwarded` (RFC 7239), `X-Real-IP` and those of
//! single products. Pure; whether the peer that sent them is trusted is decided by `client`.

use std::net::IpAddr;

use actix_web::http::header::HeaderMap;

/// The addresses that one header names, the client's first and the nearest proxy last. An element without an address
/// (`unknown`, `_hidden`, anything malformed) is `None`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The header's name.
    pub(crate) header: &'static str,
    /// One element for each hop.
    pub(crate) hops: Vec<Option<IpAddr>>,
}

/// What a header states about the scheme that the client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// TLS: `https` or `wss`.
    Https,
    /// Plain text: `http` or `ws`.
    Http,
    /// A value that is neither.
    Unreadable(&'static str),
}

/// One element of a `Forwarded` header.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    node: Option<String>,
    proto: Option<String>,
    host: Option<String>,
}

/// Written by every product that is named in README.
const FOR: &str = "x-forwarded-for";
const FORWARDED: &str = "forwarded";
const REAL_IP: &str = "x-real-ip";
const CLOUDFRONT: &str = "cloudfront-viewer-address";
const PORT: &str = "x-forwarded-port";

/// Headers of CDNs and load balancers that name the client. They are never used: the same products also write `X-Forwarded-For`, and
/// proxies that do not know them pass on what a client sends.
const OF_CDNS: [&str; 14] = [
    "cf-connecting-ip",
    CLOUDFRONT,
    "x-envoy-external-address",
    "x-cluster-client-ip",
    "x-vercel-forwarded-for",
    "x-nf-client-connection-ip",
    "do-connecting-ip",
    "incap-client-ip",
    "ali-cdn-real-ip",
    "true-client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "x-azure-clientip",
    "x-appengine-user-ip",
];

/// Headers whose value is a scheme. CloudFront, Envoy, Traefik, ingress-nginx and AWS write these.
const SCHEMES: [&str; 5] = [
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-protocol",
    "x-scheme",
    "cloudfront-forwarded-proto",
];

/// Headers whose value is `on` behind TLS.
const SWITCHES: [&str; 2] = ["x-forwarded-ssl", "front-end-https"];

/// Headers whose value is the host that the client asked for. Azure writes the second.
const HOSTS: [&str; 2] = ["x-forwarded-host", "x-original-host"];

/// Whether the request has any header that only a proxy has a reason to write.
pub(crate) fn is_present(headers: &HeaderMap) -> bool {
    let own = |name: &str| name.starts_with("x-forwarded-") || name == FORWARDED || name == REAL_IP;
    headers.keys().any(|name| own(name.as_str()) || OF_CDNS.contains(&name.as_str()))
}

/// The chains of addresses, in the order of precedence.
pub(crate) fn chains(headers: &HeaderMap) -> Vec<Chain> {
    let mut chains = Vec::new();
    let listed: Vec<_> = elements(headers, FOR).map(|text| text.and_then(address)).collect();
    let standard = forwarded(headers);
    let real: Vec<_> = elements(headers, REAL_IP).map(|text| text.and_then(address)).collect();
    if !listed.is_empty() {
        chains.push(Chain { header: FOR, hops: listed });
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

/// The client addresses that headers of CDNs name.
pub(crate) fn of_cdns(headers: &HeaderMap) -> impl Iterator<Item = (&'static str, Option<IpAddr>)> {
    // CloudFront writes a port behind an IPv6 address, too, without brackets.
    let bare = |name, text| if name == CLOUDFRONT { without_port(text) } else { text };
    let one = move |name| {
        let text = elements(headers, name).next()?;
        Some((name, text.and_then(|text| address(bare(name, text)))))
    };
    OF_CDNS.into_iter().filter_map(one)
}

/// Every statement about the client's scheme; of a list the client's side comes first.
pub(crate) fn schemes(headers: &HeaderMap) -> Vec<Scheme> {
    let mut said = Vec::new();
    for name in SCHEMES {
        said.extend(elements(headers, name).map(|text| scheme(name, text.unwrap_or_default())));
    }
    let standard = forwarded(headers);
    said.extend(standard.iter().filter_map(|element| Some(scheme(FORWARDED, element.proto.as_deref()?))));
    for name in SWITCHES {
        said.extend(elements(headers, name).map(|text| match text {
            Some(text) if text.eq_ignore_ascii_case("on") => Scheme::Https,
            Some(text) if text.eq_ignore_ascii_case("off") => Scheme::Http,
            _ => Scheme::Unreadable(name),
        }));
    }
    said.extend(ports(headers).filter(|port| *port == 443).map(|_| Scheme::Https));
    said
}

/// The hosts that the client asked for, each with its port if it has one.
pub(crate) fn hosts(headers: &HeaderMap) -> Vec<String> {
    let named = HOSTS.into_iter().flat_map(|name| elements(headers, name)).flatten().map(str::to_owned);
    let standard = forwarded(headers).into_iter().filter_map(|element| element.host);
    named.chain(standard).collect()
}

/// The ports that the client connected to.
pub(crate) fn ports(headers: &HeaderMap) -> impl Iterator<Item = u16> {
    elements(headers, PORT).filter_map(|text| text?.parse().ok())
}

/// The address in `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:5678`, each also in quotes and
/// with a zone. A mapped IPv4 address is the IPv4 address.
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

/// A number, or a name that hides it (RFC 7239 §6.2).
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

/// The elements of a list header over all its lines, without empty ones; `None` where a line is not text.
fn elements<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = Option<&'a str>> {
    headers.get_all(name).flat_map(|value| {
        let (text, odd) = value.to_str().map_or(("", true), |text| (text, false));
        let elements = text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(Some);
        elements.chain(odd.then_some(None))
    })
}

/// The elements of all `Forwarded` lines. A malformed pair is left out; an element without a readable pair names nothing.
fn forwarded(headers: &HeaderMap) -> Vec<Element> {
    // A quote that a client opens and does not close would take in what the proxy appends.
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

/// `text` split at every separator that is not inside a quoted string; none when it ends inside one.
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

/// The content of a quoted string; other text as it is.
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

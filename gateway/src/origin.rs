//! Origins: the server's own, the allowed ones, and the origin of a request. Pure. The middleware checks every WebSocket
//! handshake, every poll and every request that changes state.

use std::{fmt, str::FromStr};

use actix_web::http::{
    Uri,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use url::Host;

use crate::{
    client::{self, Client},
    error::Error,
};

/// A scheme, a canonical host and a port. Only pages of the same origin may act for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    host: String,
    /// `None` only for a custom scheme, which has no default port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    /// `http` or `ws`.
    Http,
    /// `https` or `wss`.
    Https,
    /// The scheme of a hybrid app or a browser extension, in lower case.
    Custom(String),
}

/// The origin that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestOrigin {
    /// A page or app.
    Page(Origin),
    /// `null` or `file://`: the page cannot be identified.
    Opaque,
    /// Several origins, or an invalid one.
    Malformed,
}

/// The origin under which the client reaches the server, as far as the request shows it.
#[derive(Debug)]
pub(crate) struct ServerOrigin {
    /// Hosts and ports that the client may have requested. A port is `None` when it is unknown.
    names: Vec<(String, Option<u16>)>,
    /// Additional ports that a trusted proxy states.
    ports: Vec<u16>,
    /// `None` when a trusted proxy does not state the scheme.
    https: Option<bool>,
    /// Whether the names come from a trusted proxy, which may remove the port.
    proxied: bool,
}

/// Where an accepted request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A program, or a page of the server's own origin.
    Own,
    /// A page of a listed origin.
    Listed,
}

/// How certain the origin of a request must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The request changes state or opens a WebSocket. Every browser sends the origin with such requests.
    Named,
    /// The request reads. A browser may omit its own origin.
    NotForeign,
}

/// The allowed origins in addition to the server's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed<'a> {
    pub(crate) listed: &'a [Origin],
    pub(crate) opaque: bool,
}

/// Only browsers can set this header; pages cannot.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Schemes of pages without an origin of their own.
const ORIGINLESS: [&str; 6] = ["ftp", "data", "blob", "javascript", "about", "mailto"];

impl Origin {
    /// The origin of `authority` (`host[:port]`, as in a Host header). `None` when it is malformed.
    pub(crate) fn new(https: bool, authority: &str) -> Option<Self> {
        Self::of(if https { Scheme::Https } else { Scheme::Http }, authority)
    }

    fn of(scheme: Scheme, authority: &str) -> Option<Self> {
        let (host, port) = parse_authority(authority)?;
        let default_port = match scheme {
            Scheme::Http => Some(80),
            Scheme::Https => Some(443),
            Scheme::Custom(_) => None,
        };
        Some(Self { scheme, host, port: port.or(default_port) })
    }

    /// Whether both have the same host and port. The default ports of http and https are equal, because a proxy may
    /// terminate TLS.
    pub(crate) fn same_host(&self, other: &Self) -> bool {
        let is_usual = |origin: &Self| origin.port == Some(if origin.is_https() { 443 } else { 80 });
        self.host == other.host && (self.port == other.port || (is_usual(self) && is_usual(other)))
    }

    /// Whether its pages are loaded over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }
}

impl FromStr for Origin {
    /// What is wrong, with the remedy. It does not contain the value.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.contains('*') {
            return Err(
                "there is no wildcard: list each origin by its full name, such as https://app.example.org",
            );
        }
        if is_opaque(text) {
            return Err(
                "null and file: are shared by all sandboxed pages and local files: use --allow-opaque-origin \
                 (GODZILLA_ALLOW_OPAQUE_ORIGIN)",
            );
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("an origin begins with its scheme, as in https://app.example.org")?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(
                "an origin has no path: drop everything after the host and port, as in https://app.example.org",
            );
        }
        let malformed =
            "an origin is a scheme, a host and, if needed, a port, as in https://app.example.org:8443";
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => Scheme::Http,
            "https" | "wss" => Scheme::Https,
            other if is_scheme(other) && !ORIGINLESS.contains(&other) => Scheme::Custom(other.to_owned()),
            _ => return Err(malformed),
        };
        Self::of(scheme, authority).ok_or(malformed)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = match &self.scheme {
            Scheme::Http => ("http", Some(80)),
            Scheme::Https => ("https", Some(443)),
            Scheme::Custom(name) => (name.as_str(), None),
        };
        write!(f, "{scheme}://{}", self.host)?;
        match self.port.filter(|port| Some(*port) != usual) {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl RequestOrigin {
    /// The origin in the `Origin` header of a request. `None` without the header.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(header::ORIGIN);
        let first = all.next()?;
        Some(if all.next().is_some() { Self::Malformed } else { Self::parse(first) })
    }

    fn parse(value: &HeaderValue) -> Self {
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else { return Self::Malformed };
        match text.parse() {
            Ok(origin) => Self::Page(origin),
            Err(_) if is_opaque(text) => Self::Opaque,
            Err(_) => Self::Malformed,
        }
    }
}

impl Allowed<'_> {
    /// Whether requests of this origin are allowed.
    pub(crate) fn contains(self, named: &RequestOrigin) -> bool {
        match named {
            RequestOrigin::Page(origin) => self.listed.contains(origin),
            RequestOrigin::Opaque => self.opaque,
            RequestOrigin::Malformed => false,
        }
    }
}

impl ServerOrigin {
    /// The server's origin for a request of `client`. The forwarded host of a trusted proxy precedes the Host header, which
    /// may be the proxy's own name for the server. Browsers do not allow pages to set these headers.
    pub(crate) fn of(client: Client, uri: &Uri, headers: &HeaderMap) -> Self {
        let reported = if client.proxied { client::hosts(headers) } else { Vec::new() };
        let mut names: Vec<_> = reported.iter().filter_map(|host| parse_authority(host)).collect();
        if names.is_empty() {
            names.extend(host(uri, headers).and_then(parse_authority));
        }
        let ports = if client.proxied { client::ports(headers) } else { Vec::new() };
        Self { names, ports, https: client.https, proxied: client.proxied }
    }

    /// Whether `origin` is the server's own. Behind a trusted proxy an unknown scheme and an unknown port are not compared,
    /// because common configurations remove both.
    fn matches(&self, origin: &Origin) -> bool {
        let (https, Some(port)) = (origin.is_https(), origin.port) else { return false };
        let is_web = !matches!(origin.scheme, Scheme::Custom(_));
        let default_port = if https { 443 } else { 80 };
        let fits = |named: Option<u16>| match named {
            Some(named) => named == port || self.ports.contains(&port),
            None => self.proxied || port == default_port,
        };
        let is_named = self.names.iter().any(|(host, named)| *host == origin.host && fits(*named));
        is_web && is_named && self.https.is_none_or(|own| own == https)
    }
}

impl fmt::Display for ServerOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.https {
            Some(true) => "https",
            Some(false) => "http",
            None => "http(s)",
        };
        let Some((host, port)) = self.names.first() else { return f.write_str("none: no host is named") };
        write!(f, "{scheme}://{host}")?;
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The host that the request names: the Host header if there is exactly one, the authority of the target if there is no
/// Host header.
pub(crate) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut hosts = headers.get_all(header::HOST);
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => Some(uri.authority()?.as_str()),
        _ => None,
    }
}

/// Checks whether a request with these headers and this origin is allowed.
pub(crate) fn check(
    headers: &HeaderMap,
    named: Option<&RequestOrigin>,
    own: &ServerOrigin,
    allowed: Allowed<'_>,
    need: Need,
) -> Result<Source, Error> {
    if named.is_some_and(|named| allowed.contains(named)) {
        return Ok(Source::Listed);
    }
    let is_browser = headers.contains_key(&SEC_FETCH_SITE);
    let is_same_origin = headers.get_all(&SEC_FETCH_SITE).all(|site| site == "same-origin" || site == "none");
    let is_own = match named {
        Some(RequestOrigin::Page(origin)) => own.matches(origin),
        Some(_) => false,
        None => !is_browser || need == Need::NotForeign,
    };
    if is_own && is_same_origin { Ok(Source::Own) } else { Err(Error::Origin) }
}

/// Parses `host[:port]` into canonical form, so that all spellings of one host are equal: lower case, punycode, without a
/// trailing dot, an address in its shortest form. An empty port is an absent one (RFC 3986 §3.2.3). `None` when the text is
/// malformed.
fn parse_authority(text: &str) -> Option<(String, Option<u16>)> {
    // The colons of an IPv6 address are inside its brackets.
    let end = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text.get(end..)?.find(':').map(|at| at + end) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    let port = if port.is_empty() { None } else { Some(port.parse().ok().filter(|_| is_number)?) };
    // A zone is meaningful only on the client's machine (RFC 6874 §1).
    let (bare, zone) = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.split_once('%')) {
        Some((address, zone)) => (format!("[{address}]"), zone),
        None => (host.to_owned(), ""),
    };
    let (host, is_zone) = (bare.as_str(), |b: u8| b.is_ascii_alphanumeric() || b".-_~%".contains(&b));
    if !zone.bytes().all(is_zone) {
        return None;
    }
    // Characters that URLs allow in a host and browsers never send.
    if host.contains(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !".-_:[]".contains(c)) {
        return None;
    }
    let host = match Host::parse(host).ok()? {
        Host::Domain(name) if name == "." => name,
        Host::Domain(name) => name.strip_suffix('.').unwrap_or(&name).to_owned(),
        address => address.to_string(),
    };
    (!host.is_empty()).then_some((host, port))
}

/// Whether this is the origin of sandboxed pages or local files.
fn is_opaque(text: &str) -> bool {
    text.eq_ignore_ascii_case("null")
        || text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("file:"))
}

/// Whether the text is a valid scheme (RFC 3986 §3.1).
fn is_scheme(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(rest)
}

#[cfg(test)]
mod tests;

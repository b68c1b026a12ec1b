//! Origins: which one the server has, which ones are allowed, and whether a browser's request comes from one of them. Pure;
//! the door asks on every WebSocket handshake, every poll and every request that changes something.

use std::{fmt, str::FromStr};

use actix_web::http::{
    Uri,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use crate::{authority, client::Client, error::Error, forwarded};

/// A scheme, a host in its canonical form and a port. Two pages of one origin may act for each other; others may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    host: String,
    /// None only for a scheme that has no usual port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    /// `http` or `ws`.
    Http,
    /// `https` or `wss`.
    Https,
    /// The scheme of a hybrid app or a browser extension, in lower case.
    Named(String),
}

/// An origin that cannot be allowed. States the remedy and never repeats the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOrigin {
    /// Contains `*`.
    #[error("there is no wildcard: list each origin by its full name, such as https://app.example.org")]
    Wildcard,
    /// Has a path, a query or a fragment.
    #[error("an origin has no path: drop everything after the host and port, as in https://app.example.org")]
    Path,
    /// `null` or `file://`.
    #[error(
        "null and file: are shared by all sandboxed pages and local files: use --allow-opaque-origin \
         (GODZILLA_ALLOW_OPAQUE_ORIGIN)"
    )]
    Opaque,
    /// Does not begin with a scheme.
    #[error("an origin begins with its scheme, as in https://app.example.org")]
    NoScheme,
    /// Anything else.
    #[error(
        "an origin is a scheme, a host and, if it is not the usual one, a port, as in https://app.example.org:8443"
    )]
    Malformed,
}

/// What a request names as its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// A page or app.
    Page(Origin),
    /// `null` or `file://`: nobody can tell which page it is.
    Opaque,
    /// Several origins, or none that can be parsed.
    Malformed,
}

/// The origin under which the server is reached, as far as the request shows it.
#[derive(Debug)]
pub(crate) struct Own {
    /// Hosts and ports by which the client may have asked; without a port it is unknown.
    names: Vec<(String, Option<u16>)>,
    /// Ports that a trusted proxy names beside them.
    ports: Vec<u16>,
    /// None when a trusted proxy does not state the scheme.
    https: Option<bool>,
    /// Whether the names come through a trusted proxy, which may drop the port.
    proxied: bool,
}

/// Where a request comes from, once it may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A program, or a page of our own.
    Own,
    /// A page of an origin on the list.
    Listed,
}

/// How sure a request must be of its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// It changes something or opens a WebSocket: every browser names its origin then.
    Named,
    /// It reads: a browser may leave its own origin out.
    NotForeign,
}

/// The origins that are allowed beside the server's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed<'a> {
    pub(crate) listed: &'a [Origin],
    pub(crate) opaque: bool,
}

/// Set by browsers alone; pages cannot.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Schemes of pages that have no origin of their own.
const ORIGINLESS: [&str; 6] = ["ftp", "data", "blob", "javascript", "about", "mailto"];

impl Origin {
    /// The origin of `authority` (`host[:port]`, as in a Host header); none when it is malformed.
    pub(crate) fn new(https: bool, authority: &str) -> Option<Self> {
        Self::of(if https { Scheme::Https } else { Scheme::Http }, authority)
    }

    fn of(scheme: Scheme, authority: &str) -> Option<Self> {
        let is_web = !matches!(scheme, Scheme::Named(_));
        let (host, port) = if is_web { authority::web(authority)? } else { authority::opaque(authority)? };
        let usual = match scheme {
            Scheme::Http => Some(80),
            Scheme::Https => Some(443),
            Scheme::Named(_) => None,
        };
        Some(Self { scheme, host, port: port.or(usual) })
    }

    /// Whether both name one host and port. Behind a proxy that ends TLS the usual ports of http and https are one.
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
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        if text.contains('*') {
            return Err(NotAnOrigin::Wildcard);
        }
        if is_opaque(text) {
            return Err(NotAnOrigin::Opaque);
        }
        let (scheme, rest) = text.split_once("://").ok_or(NotAnOrigin::NoScheme)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(NotAnOrigin::Path);
        }
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => Scheme::Http,
            "https" | "wss" => Scheme::Https,
            other if is_scheme(other) && !ORIGINLESS.contains(&other) => Scheme::Named(other.to_owned()),
            _ => return Err(NotAnOrigin::Malformed),
        };
        Self::of(scheme, authority).ok_or(NotAnOrigin::Malformed)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = match &self.scheme {
            Scheme::Http => ("http", Some(80)),
            Scheme::Https => ("https", Some(443)),
            Scheme::Named(name) => (name.as_str(), None),
        };
        write!(f, "{scheme}://{}", self.host)?;
        match self.port.filter(|port| Some(*port) != usual) {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Named {
    /// What the header `Origin` of a request names; none without one.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(header::ORIGIN);
        let first = all.next()?;
        Some(if all.next().is_some() { Self::Malformed } else { Self::parse(first) })
    }

    fn parse(value: &HeaderValue) -> Self {
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else { return Self::Malformed };
        match text.parse() {
            Ok(origin) => Self::Page(origin),
            Err(NotAnOrigin::Opaque) => Self::Opaque,
            Err(_) => Self::Malformed,
        }
    }
}

impl Allowed<'_> {
    /// Whether requests of this origin may pass.
    pub(crate) fn has(self, named: &Named) -> bool {
        match named {
            Named::Page(origin) => self.listed.contains(origin),
            Named::Opaque => self.opaque,
            Named::Malformed => false,
        }
    }
}

impl Own {
    /// The server's origin for a request of `client`. What a trusted proxy reports of the host that the client asked for comes before
    /// the Host header, which may be the proxy's own name for the server. Browsers do not let pages set these headers.
    pub(crate) fn of(client: Client, uri: &Uri, headers: &HeaderMap) -> Self {
        let reported = if client.proxied { forwarded::hosts(headers) } else { Vec::new() };
        let mut names: Vec<_> = reported.iter().filter_map(|host| authority::web(host)).collect();
        if names.is_empty() {
            names.extend(host(uri, headers).and_then(authority::web));
        }
        let ports = if client.proxied { forwarded::ports(headers).collect() } else { Vec::new() };
        Self { names, ports, https: client.https, proxied: client.proxied }
    }

    /// Whether the host of `origin` is the server's, or above or below it.
    pub(crate) fn is_near(&self, origin: &Origin) -> bool {
        self.names.iter().any(|(host, _)| authority::are_near(host, &origin.host))
    }

    /// Whether `origin` is the server's own. Behind a trusted proxy the scheme is not compared if the proxy does not state it, nor
    /// the port if the host is without one: common configurations drop both.
    fn is(&self, origin: &Origin) -> bool {
        let (https, Some(port)) = (origin.is_https(), origin.port) else { return false };
        let web = !matches!(origin.scheme, Scheme::Named(_));
        let usual = if https { 443 } else { 80 };
        let fits = |named: Option<u16>| match named {
            Some(named) => named == port || self.ports.contains(&port),
            None => self.proxied || port == usual,
        };
        let named = self.names.iter().any(|(host, named)| *host == origin.host && fits(*named));
        web && named && self.https.is_none_or(|own| own == https)
    }
}

impl fmt::Display for Own {
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

/// The host that the request names: one Host header, else the authority of the target.
pub(crate) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut hosts = headers.get_all(header::HOST);
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => Some(uri.authority()?.as_str()),
        _ => None,
    }
}

/// May a request with these headers, which names this origin, act here?
pub(crate) fn check(
    headers: &HeaderMap,
    named: Option<&Named>,
    own: &Own,
    allowed: Allowed<'_>,
    need: Need,
) -> Result<Source, Error> {
    if named.is_some_and(|named| allowed.has(named)) {
        return Ok(Source::Listed);
    }
    let browser = headers.contains_key(&SEC_FETCH_SITE);
    let near = headers.get_all(&SEC_FETCH_SITE).all(|site| site == "same-origin" || site == "none");
    let ours = match named {
        Some(Named::Page(origin)) => own.is(origin),
        Some(_) => false,
        None => !browser || need == Need::NotForeign,
    };
    if ours && near { Ok(Source::Own) } else { Err(Error::Origin) }
}

/// Whether this is the origin of sandboxed pages or of local files.
fn is_opaque(text: &str) -> bool {
    text.eq_ignore_ascii_case("null")
        || text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("file:"))
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(rest)
}

#[cfg(test)]
mod tests;

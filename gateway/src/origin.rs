//! Origins: which one we are, which ones are welcome, and whether a browser's request comes from one of them. Pure; the
//! door asks on every WebSocket handshake, every poll and every request that changes something.

use std::{fmt, str::FromStr};

use actix_web::http::{
    Uri,
    header::{self, HeaderMap, HeaderName},
    uri::Authority,
};

use crate::error::Error;

/// A scheme, a host in lower case and a port. Two pages of one origin may act for each other; others may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    https: bool,
    host: String,
    port: u16,
}

/// An origin that cannot be allowed. Says what is expected and never repeats the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is http:// or https:// with a host and, if not the usual one, a port: no path, no wildcard"
)]
pub struct NotAnOrigin;

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

/// Set by browsers alone; pages cannot.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Origin {
    /// The origin of `authority` (`host[:port]`, as in a Host header); none when it is malformed.
    pub(crate) fn new(https: bool, authority: &str) -> Option<Self> {
        let parsed = Authority::from_str(authority).ok()?;
        let host = parsed.host();
        let after = authority.get(host.len()..).filter(|_| authority.starts_with(host))?;
        let port = match after.strip_prefix(':') {
            Some(digits) => digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?,
            None if after.is_empty() => {
                if https {
                    443
                } else {
                    80
                }
            }
            None => return None,
        };
        let sane = !host.is_empty() && !host.contains(['*', '%', '@']);
        sane.then(|| Self { https, host: host.to_ascii_lowercase(), port })
    }

    /// The origin under which the client reached us.
    pub(crate) fn own(https: bool, uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        let mut hosts = headers.get_all(header::HOST);
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok()?,
            (None, _) => uri.authority()?.as_str(),
            _ => return None,
        };
        Self::new(https, host)
    }

    /// Whether both name one host and port.
    pub(crate) fn same_host(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(NotAnOrigin)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(NotAnOrigin),
        };
        Self::new(https, authority).ok_or(NotAnOrigin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.https { "https" } else { "http" }, self.host, self.port)
    }
}

/// May a request with these headers act here? `own` is who we are to this client.
pub(crate) fn check(
    headers: &HeaderMap,
    own: Option<&Origin>,
    listed: &[Origin],
    need: Need,
) -> Result<Source, Error> {
    let origin = named(headers)?;
    if origin.as_ref().is_some_and(|origin| listed.contains(origin)) {
        return Ok(Source::Listed);
    }
    let browser = headers.contains_key(&SEC_FETCH_SITE);
    let near = headers.get_all(&SEC_FETCH_SITE).all(|site| site == "same-origin" || site == "none");
    let ours = match origin {
        Some(origin) => Some(&origin) == own,
        None => !browser || need == Need::NotForeign,
    };
    if ours && near { Ok(Source::Own) } else { Err(Error::Origin) }
}

/// The origin that the request names: none without an Origin header, refused when it is `null` or anything odd.
fn named(headers: &HeaderMap) -> Result<Option<Origin>, Error> {
    let mut all = headers.get_all(header::ORIGIN);
    let Some(value) = all.next() else { return Ok(None) };
    let origin = value.to_str().ok().and_then(|text| text.parse().ok());
    match (origin, all.next()) {
        (Some(origin), None) => Ok(Some(origin)),
        _ => Err(Error::Origin),
    }
}

#[cfg(test)]
mod tests;

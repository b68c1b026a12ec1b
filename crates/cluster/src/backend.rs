//! The address of a service in another process. Parsed from flags and from the entries of the table of nodes.

use std::{fmt, str::FromStr};

use hyper::{Uri, http::uri::Authority};

/// Host and port of a service that accepts plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backend(Authority);

/// An invalid service address. The message does not contain the address, which may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected http:// with a host and a port and nothing else, such as http://127.0.0.1:8081")]
pub struct InvalidBackend;

impl Backend {
    /// The host and port.
    pub fn address(&self) -> &str {
        self.0.as_str()
    }

    /// The URI of `target`, a path with an optional query.
    pub fn uri(&self, target: &str) -> Option<Uri> {
        Uri::builder().scheme("http").authority(self.0.clone()).path_and_query(target).build().ok()
    }
}

impl FromStr for Backend {
    type Err = InvalidBackend;

    fn from_str(text: &str) -> Result<Self, InvalidBackend> {
        let uri: Uri = text.parse().map_err(|_| InvalidBackend)?;
        let is_bare = uri.path() == "/" && uri.query().is_none() && !text.contains(['#', '@']);
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let is_http = uri.scheme_str() == Some("http") && is_bare;
        authority
            .filter(|authority| is_http && authority.port_u16().is_some())
            .cloned()
            .map(Self)
            .ok_or(InvalidBackend)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_an_http_url_of_host_and_port() {
        for good in ["http://10.0.0.7:3000", "http://accounts.chat.svc:8081/", "http://[::1]:3000"] {
            let backend: Backend = good.parse().unwrap();
            assert_eq!(backend.to_string(), good.trim_end_matches('/'));
        }
        let bad = [
            "",
            "10.0.0.7:3000",
            "http://host",
            "http://:3000",
            "http://host:99999",
            "https://host:3000",
            "http://user:secret@host:3000",
            "http://host:3000/path",
            "http://host:3000/?x",
            "redis://host:1",
        ];
        for bad in bad {
            assert_eq!(bad.parse::<Backend>(), Err(InvalidBackend), "{bad}");
        }
    }
}

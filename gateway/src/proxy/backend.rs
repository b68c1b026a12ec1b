//! Where a service in another process is. Parsed from flags and from what chat nodes announce.

use std::{fmt, str::FromStr};

use hyper::{Uri, http::uri::Authority};

/// A host and port that speaks plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend(Authority);

/// The address is none of a service. Does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected http:// with a host and a port and nothing else, such as http://127.0.0.1:8081")]
pub struct NotABackend;

impl Backend {
    /// Host and port.
    pub(super) fn address(&self) -> &str {
        self.0.as_str()
    }

    /// The address of `target`, a path with its query.
    pub(super) fn uri(&self, target: &str) -> Option<Uri> {
        Uri::builder().scheme("http").authority(self.0.clone()).path_and_query(target).build().ok()
    }
}

impl FromStr for Backend {
    type Err = NotABackend;

    fn from_str(text: &str) -> Result<Self, NotABackend> {
        let uri: Uri = text.parse().map_err(|_| NotABackend)?;
        let bare = uri.path() == "/" && uri.query().is_none() && !text.contains(['#', '@']);
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let known = uri.scheme_str() == Some("http") && bare;
        authority
            .filter(|authority| known && authority.port_u16().is_some())
            .cloned()
            .map(Self)
            .ok_or(NotABackend)
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
    fn a_backend_is_http_with_host_and_port_and_nothing_else() {
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
            assert_eq!(bad.parse::<Backend>(), Err(NotABackend), "{bad}");
        }
    }
}

//! What a proxy or a client can damage in a WebSocket handshake: the cause and the remedy of each damage. Pure. `handshake` and
//! `upgrade` find the damage, `error` and `warnings` report it.

use actix_web::http::header::HeaderValue;

/// The WebSocket version of RFC 6455.
pub(crate) const VERSION: HeaderValue = HeaderValue::from_static("13");

/// Why a request is not a valid WebSocket handshake although its sender meant one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeIssue {
    /// The query has `transport=websocket`, and no upgrade is requested.
    #[error("transport=websocket without the header Upgrade: websocket")]
    NoUpgrade,
    /// `Connection` does not contain `upgrade`.
    #[error("the header Upgrade: websocket without Connection: Upgrade")]
    NoConnection,
    /// The query of a request with an upgrade has another `transport`, or the request is no GET.
    #[error("the header Upgrade: websocket on a request that is not a GET with transport=websocket")]
    NotWebSocket,
    /// The upgrade is requested on another route.
    #[error("nothing can be upgraded here: WebSockets are served at /socket.io/")]
    OtherRoute,
    /// `Upgrade` has other protocols beside WebSocket.
    #[error("the only upgrade is to websocket, offered alone")]
    Combined,
    /// HTTP/1.0, which has no upgrades.
    #[error("a WebSocket handshake is HTTP/1.1: a proxy must not send HTTP/1.0")]
    Http10,
    /// The handshake has a body.
    #[error("a WebSocket handshake has no body")]
    Body,
    /// `Sec-WebSocket-Version` is missing, repeated or not 13.
    #[error("Sec-WebSocket-Version is not 13")]
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key is missing, repeated or not 16 bytes in base64")]
    Key,
}

impl HandshakeIssue {
    /// The `reason` label of the metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NoUpgrade => "no_upgrade",
            Self::NoConnection => "no_connection",
            Self::NotWebSocket => "not_websocket",
            Self::OtherRoute => "other_route",
            Self::Combined => "combined",
            Self::Http10 => "http_1_0",
            Self::Body => "body",
            Self::Version => "version",
            Self::Key => "key",
        }
    }

    /// What to change, at the proxy or at the client.
    pub(crate) fn remedy(self, is_behind_proxy: bool) -> &'static str {
        match self {
            Self::NoUpgrade | Self::NoConnection | Self::Http10 if is_behind_proxy => {
                "the proxy drops Upgrade or Connection: let it use HTTP/1.1 and pass on both, see docs/proxies.md"
            }
            Self::NoUpgrade | Self::NoConnection | Self::Http10 => {
                "if a proxy is in front of this server, let it use HTTP/1.1 and pass on Upgrade and Connection, see \
                 docs/proxies.md; otherwise the client must send them"
            }
            Self::NotWebSocket => {
                "if a proxy is in front of this server, let it set Upgrade only to the value that the client sent, and keep the \
                 query, see docs/proxies.md"
            }
            Self::OtherRoute => {
                "let the client use the path /socket.io/, or let the proxy keep the path and set Upgrade only to the value that \
                 the client sent, see docs/proxies.md"
            }
            Self::Combined | Self::Body | Self::Version | Self::Key => {
                "use a client of RFC 6455; a proxy must pass on Upgrade and Sec-WebSocket-* unchanged, see docs/proxies.md"
            }
        }
    }
}

//! The Engine.IO handshake: the parsed request, the reference implementation's error table, and the open
//! packet. Used by the transports.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

use crate::Config;

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// HTTP long-polling.
    Polling,
    /// A WebSocket.
    WebSocket,
}

/// What a request to the server's path requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HandshakeRequest {
    /// Opens a new session.
    Open(Transport),
    /// Uses an existing session.
    Use { sid: String, transport: Transport, is_current_version: bool },
}

/// The properties of a request, besides its query, that the check needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestKind {
    /// Whether the method is GET.
    pub(crate) is_get: bool,
    /// Whether the request is a WebSocket upgrade.
    pub(crate) is_upgrade: bool,
}

/// A handshake error with the code and message of the reference implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The transport is missing, unknown or disabled.
    #[error("Transport unknown")]
    TransportUnknown,
    /// No open session has this id.
    #[error("Session ID unknown")]
    SessionUnknown,
    /// A session must be opened with GET.
    #[error("Bad handshake method")]
    BadMethod,
    /// A WebSocket without an upgrade, or a session used with another transport.
    #[error("Bad request")]
    BadRequest,
    /// A WebSocket upgrade that RFC 6455 does not allow, in words like those of Node's `ws`.
    #[error("{0}")]
    InvalidUpgrade(&'static str),
    /// The version of the WebSocket protocol is not 13.
    #[error("Missing or invalid Sec-WebSocket-Version header")]
    WebSocketVersion,
    /// The session has another owner, or the application refuses to open a session.
    #[error("Forbidden")]
    Forbidden,
    /// The protocol version is not Engine.IO 4.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
}

impl HandshakeError {
    /// The code in the reference implementation's error table.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::TransportUnknown => 0,
            Self::SessionUnknown => 1,
            Self::BadMethod => 2,
            Self::BadRequest | Self::InvalidUpgrade(_) | Self::WebSocketVersion => 3,
            Self::Forbidden => 4,
            Self::UnsupportedVersion => 5,
        }
    }
}

/// The query parameters of Engine.IO. The last value of a repeated parameter counts, as with
/// `URLSearchParams`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    transport: Option<String>,
    version: Option<String>,
    sid: Option<String>,
    is_base64: bool,
}

impl Query {
    /// Whether the client requests binary data as base64 text on this WebSocket: `b64` with any value but the
    /// empty one.
    pub(crate) fn is_base64(&self) -> bool {
        self.is_base64
    }

    /// Reads decoded pairs. Other parameters are ignored: they belong to the application.
    pub(crate) fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut query = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "transport" => query.transport = Some(value),
                "EIO" => query.version = Some(value),
                "b64" => query.is_base64 = !value.is_empty(),
                // As in the reference implementation, an empty id is ignored. It does not override another id, because checks before this
                // one look for any id.
                "sid" if value.is_empty() => {}
                "sid" => query.sid = Some(value),
                // The request names a session in a form that matches no session. It must not open a new one.
                array if array.starts_with("sid[") => query.sid = Some(String::new()),
                _ => {}
            }
        }
        query
    }

    /// Checks the query in the order of the reference implementation: transport, session, method, upgrade,
    /// version.
    pub(crate) fn check(
        self,
        kind: RequestKind,
        config: &Config,
    ) -> Result<HandshakeRequest, HandshakeError> {
        let transport = match self.transport.as_deref() {
            Some("polling") if config.polling => Transport::Polling,
            Some("websocket") if config.websocket => Transport::WebSocket,
            _ => return Err(HandshakeError::TransportUnknown),
        };
        let is_current_version = self.version.as_deref() == Some("4");
        if let Some(sid) = self.sid {
            return Ok(HandshakeRequest::Use { sid, transport, is_current_version });
        }
        if !kind.is_get {
            return Err(HandshakeError::BadMethod);
        }
        if (transport == Transport::WebSocket) != kind.is_upgrade {
            return Err(HandshakeError::BadRequest);
        }
        if !is_current_version {
            return Err(HandshakeError::UnsupportedVersion);
        }
        Ok(HandshakeRequest::Open(transport))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Open<'a> {
    sid: &'a str,
    upgrades: &'a [&'a str],
    ping_interval: u128,
    ping_timeout: u128,
    max_payload: usize,
}

/// The text of the open packet, with exactly the five keys that the protocol's test suite requires.
pub(crate) fn open_packet(sid: &str, upgrades: &[&str], config: &Config) -> String {
    let open = Open {
        sid,
        upgrades,
        ping_interval: config.ping_interval.as_millis(),
        ping_timeout: config.ping_timeout.as_millis(),
        max_payload: config.max_payload,
    };
    let json = serde_json::to_string(&open).expect("strings and numbers always serialise");
    format!("0{json}")
}

/// Error: the operating system provides no random bytes, so no id can be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system provides no random bytes: {0}")]
pub struct NoEntropy(#[from] getrandom::Error);

/// A new unguessable id: 120 random bits as 20 URL-safe characters. Used for session ids and, independently,
/// for socket ids.
///
/// # Errors
/// [`NoEntropy`]. It is counted; the caller refuses the request.
pub(crate) fn new_id() -> Result<String, NoEntropy> {
    let mut random = [0_u8; 15];
    getrandom::fill(&mut random)
        .inspect_err(|_| metrics::counter!("socketio_entropy_failures_total").increment(1))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Query::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn the_first_failing_check_decides() {
        use HandshakeError::{BadMethod, BadRequest, TransportUnknown, UnsupportedVersion};
        let existing = |sid: &str, transport, is_current_version| {
            Ok(HandshakeRequest::Use { sid: sid.into(), transport, is_current_version })
        };
        let (polling, websocket) = (Transport::Polling, Transport::WebSocket);
        let table = [
            ("EIO=4&transport=websocket", true, true, Ok(HandshakeRequest::Open(websocket))),
            ("EIO=4&transport=polling", true, false, Ok(HandshakeRequest::Open(polling))),
            ("EIO=4", true, true, Err(TransportUnknown)),
            ("EIO=4&transport=constructor", true, true, Err(TransportUnknown)),
            ("EIO=4&transport=webtransport", true, true, Err(TransportUnknown)),
            ("transport=a&EIO=4&transport=websocket", true, true, Ok(HandshakeRequest::Open(websocket))),
            ("EIO=4&transport=websocket&sid=__proto__", true, true, existing("__proto__", websocket, true)),
            ("EIO=4&transport=polling&sid=", true, false, Ok(HandshakeRequest::Open(polling))),
            ("EIO=4&transport=polling&sid=", false, false, Err(BadMethod)),
            ("EIO=4&transport=polling&sid[]=x", true, false, existing("", polling, true)),
            ("EIO=4&transport=polling&sid=x&sid=", true, false, existing("x", polling, true)),
            ("EIO=4&transport=websocket", false, true, Err(BadMethod)),
            ("EIO=4&transport=polling", false, false, Err(BadMethod)),
            ("EIO=4&transport=websocket", true, false, Err(BadRequest)),
            ("EIO=4&transport=polling", true, true, Err(BadRequest)),
            ("EIO=3&transport=websocket", true, true, Err(UnsupportedVersion)),
            ("EIO=4&EIO=3&transport=websocket", true, true, Err(UnsupportedVersion)),
            ("transport=websocket", true, true, Err(UnsupportedVersion)),
        ];
        for (text, is_get, is_upgrade, want) in table {
            let kind = RequestKind { is_get, is_upgrade };
            assert_eq!(query(text).check(kind, &Config::default()), want, "{text}");
        }
    }

    #[test]
    fn the_open_packet_has_exactly_five_keys() {
        let text = open_packet("abc", &[], &Config::default());
        let want =
            r#"0{"sid":"abc","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
        assert_eq!(text, want);
    }

    #[test]
    fn ids_are_twenty_url_safe_characters_and_never_repeat() {
        const IDS: usize = 100_000;
        let ids: std::collections::HashSet<_> = (0..IDS).map(|_| new_id().unwrap()).collect();
        assert_eq!(ids.len(), IDS);
        let mut counts = [[0_u32; 256]; 20];
        for id in ids {
            assert_eq!(id.len(), 20);
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            id.bytes().zip(&mut counts).for_each(|(byte, counts)| counts[usize::from(byte)] += 1);
        }
        // Each of 64 characters is equally likely at each position: 1562 times, within six standard
        // deviations.
        let counts = counts.iter().flatten().filter(|count| **count > 0);
        assert_eq!(counts.clone().count(), 20 * 64);
        assert!(counts.into_iter().all(|count| (1325..1800).contains(count)));
    }
}

//! Protocol upgrades. Only WebSocket handshakes on the socket route are accepted. Every other offer may be ignored (RFC
//! 9110 §7.8) and is, because clients such as the JDK's send one with any request. Pure. Called by the middleware.

use actix_web::{
    dev::RequestHead,
    http::{
        ConnectionType, Method, Version,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    web::Query,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{body, error::Error, routes::SOCKETS};

/// How an offer is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// No relevant offer. The response uses HTTP/1.1.
    Ignored {
        /// Whether the connection closes after the response, because the HTTP library does not keep it alive after such a
        /// request.
        closes: bool,
    },
    /// A WebSocket handshake.
    WebSocket,
}

/// Part of an offer of HTTP/2.
const SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The WebSocket version of RFC 6455.
pub(crate) const VERSION: HeaderValue = HeaderValue::from_static("13");

/// Classifies the offer of a request. Refuses an offer of WebSocket on another route, or in a form with ambiguous framing.
/// [`check_handshake`] checks the rest of a handshake.
pub(crate) fn offer(head: &RequestHead) -> Result<Offer, Error> {
    let (path, headers) = (head.uri.path(), &head.headers);
    let closes = head.connection_type() == ConnectionType::Upgrade;
    if !tokens(headers, header::UPGRADE).any(is_websocket) {
        return Ok(Offer::Ignored { closes });
    }
    if path != SOCKETS {
        // With this header the HTTP library parses the following bytes as WebSocket frames, even when `Connection` does not
        // contain `upgrade`.
        return match offers_upgrade(headers) || body::declared_length(headers).is_some() {
            true => Err(Error::Upgrade("nothing can be upgraded here: WebSockets are served at /socket.io/")),
            false => Ok(Offer::Ignored { closes: true }),
        };
    }
    let only = only(headers, header::UPGRADE);
    let has_length = headers.get_all(header::CONTENT_LENGTH).any(|length| length.as_bytes() != b"0");
    let text = if head.method != Method::GET {
        "a WebSocket handshake is a GET"
    } else if only.is_none_or(|only| !only.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        "the only upgrade is to websocket, offered alone"
    } else if head.version != Version::HTTP_11 {
        "a WebSocket handshake is HTTP/1.1: a proxy must not send HTTP/1.0"
    } else if has_length || headers.contains_key(header::TRANSFER_ENCODING) {
        "a WebSocket handshake has no body"
    } else {
        return Ok(Offer::WebSocket);
    };
    Err(Error::Upgrade(text))
}

/// Checks a request with `Upgrade: websocket` by RFC 6455 §4.2.1. The version is checked before the key, because another
/// version can have another form of key.
pub(crate) fn check_handshake(head: &RequestHead) -> Result<(), Error> {
    let headers = &head.headers;
    if !names_websocket(head) {
        return Err(Error::Upgrade("the header Upgrade: websocket on a request without transport=websocket"));
    }
    if !offers_upgrade(headers) {
        return Err(Error::Upgrade("the header Upgrade: websocket without Connection: Upgrade"));
    }
    if only(headers, header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return Err(Error::WebSocketVersion);
    }
    let key = only(headers, header::SEC_WEBSOCKET_KEY).and_then(|key| STANDARD.decode(key).ok());
    if key.is_none_or(|key| key.len() != 16) {
        return Err(Error::Upgrade("Sec-WebSocket-Key is missing, repeated or not 16 bytes in base64"));
    }
    Ok(())
}

/// Whether this is a WebSocket handshake whose offer a proxy has removed.
pub(crate) fn has_lost_offer(head: &RequestHead, offer: Offer) -> bool {
    let is_ignored = offer != Offer::WebSocket;
    is_ignored && head.method == Method::GET && head.uri.path() == SOCKETS && names_websocket(head)
}

/// Removes an ignored offer, so that no service accepts it.
pub(crate) fn remove(headers: &mut HeaderMap) {
    headers.remove(header::UPGRADE);
    headers.remove(SETTINGS);
}

/// Removes the other options of `Connection` from a handshake. The HTTP library and some services ignore `upgrade` beside `close`, which
/// lighttpd sends in each handshake that it forwards. An accepted handshake has no next request, so `close` changes nothing (RFC 9110
/// §7.6.1).
pub(crate) fn normalize(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
}

/// Whether the last `transport` of the query, as Engine.IO reads it, is `websocket`.
fn names_websocket(head: &RequestHead) -> bool {
    let pairs = Query::<Vec<(String, String)>>::from_query(head.uri.query().unwrap_or_default());
    let pairs = pairs.map(Query::into_inner).unwrap_or_default();
    pairs.iter().rev().find(|(name, _)| name == "transport").is_some_and(|(_, value)| value == "websocket")
}

/// Whether the protocol is WebSocket. A protocol may have a version.
fn is_websocket(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"websocket")
}

fn offers_upgrade(headers: &HeaderMap) -> bool {
    tokens(headers, header::CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// The elements of a list header over all its lines.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The value of a header that occurs once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut all = headers.get_all(name);
    all.next().filter(|_| all.next().is_none())
}

#[cfg(test)]
mod tests;

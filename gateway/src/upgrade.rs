//! Protocol upgrades. Only WebSocket handshakes on the socket route are accepted. Every other offer may be ignored (RFC
//! 9110 §7.8) and is, because clients such as the JDK's send one with any request. Pure. Called by the middleware.

use actix_web::{
    dev::RequestHead,
    http::{
        ConnectionType, Method, Version,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};

use crate::{body, handshake::tokens, handshake_issue::HandshakeIssue, routes::SOCKETS};

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

/// Classifies the offer of a request. Refuses an offer of WebSocket on another route, or in a form with ambiguous framing.
/// [`crate::handshake::check`] checks the rest of a handshake.
pub(crate) fn offer(head: &RequestHead) -> Result<Offer, HandshakeIssue> {
    let (path, headers) = (head.uri.path(), &head.headers);
    let closes = head.connection_type() == ConnectionType::Upgrade;
    if !tokens(headers, header::UPGRADE).any(names_websocket) {
        return Ok(Offer::Ignored { closes });
    }
    // With this header the HTTP library parses the following bytes as WebSocket frames, even when `Connection` does not
    // contain `upgrade`.
    let is_offer = tokens(headers, header::CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    if path != SOCKETS && !is_offer && body::declared_length(headers).is_none() {
        return Ok(Offer::Ignored { closes: true });
    }
    if path != SOCKETS {
        return Err(HandshakeIssue::OtherRoute);
    }
    if head.method != Method::GET {
        return Err(HandshakeIssue::NotWebSocket);
    }
    let mut all = headers.get_all(header::UPGRADE);
    let is_alone = all.next().is_some_and(|only| only.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !is_alone || all.next().is_some() {
        return Err(HandshakeIssue::Combined);
    }
    if head.version != Version::HTTP_11 {
        return Err(HandshakeIssue::Http10);
    }
    let has_length = headers.get_all(header::CONTENT_LENGTH).any(|length| length.as_bytes() != b"0");
    if has_length || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(HandshakeIssue::Body);
    }
    Ok(Offer::WebSocket)
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

/// Whether the protocol is WebSocket. A protocol may have a version.
fn names_websocket(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"websocket")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn offer_of(method: Method, path: &str, version: Version, pairs: &[(&str, &str)]) -> Option<Offer> {
        let request = TestRequest::with_uri(path).method(method).version(version);
        let request = pairs.iter().fold(request, |request, pair| request.append_header(*pair));
        offer(request.to_http_request().head()).ok()
    }

    const IGNORED: Option<Offer> = Some(Offer::Ignored { closes: false });

    #[test]
    fn only_a_get_of_the_socket_path_may_upgrade() {
        let upgrade = [("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")];
        assert_eq!(offer_of(Method::GET, SOCKETS, Version::HTTP_11, &upgrade), Some(Offer::WebSocket));
        assert_eq!(offer_of(Method::GET, SOCKETS, Version::HTTP_11, &[]), IGNORED);
        assert_eq!(offer_of(Method::POST, "/rooms", Version::HTTP_11, &[]), IGNORED);
        assert_eq!(offer_of(Method::POST, SOCKETS, Version::HTTP_11, &upgrade), None);
        for path in ["/", "/user/me", "/socket.io", "/socket.io/x", "/nowhere"] {
            assert_eq!(offer_of(Method::GET, path, Version::HTTP_11, &upgrade), None, "{path}");
        }
    }

    #[test]
    fn a_handshake_is_http_1_1_to_websocket_without_a_body() {
        assert_eq!(offer_of(Method::GET, SOCKETS, Version::HTTP_10, &[("upgrade", "websocket")]), None);
        let empty = [("upgrade", "websocket"), ("content-length", "0")];
        assert_eq!(offer_of(Method::GET, SOCKETS, Version::HTTP_11, &empty), Some(Offer::WebSocket));
        let refused: [&[(&str, &str)]; 5] = [
            &[("upgrade", "h2c, websocket")],
            &[("upgrade", "websocket, h2c")],
            &[("upgrade", "websocket"), ("upgrade", "websocket")],
            &[("upgrade", "websocket"), ("content-length", "5")],
            &[("upgrade", "websocket"), ("transfer-encoding", "chunked")],
        ];
        for headers in refused {
            assert_eq!(offer_of(Method::GET, SOCKETS, Version::HTTP_11, headers), None, "{headers:?}");
        }
    }

    #[test]
    fn every_other_offer_is_ignored_on_every_route() {
        let offers: [&[(&str, &str)]; 8] = [
            &[("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA")],
            &[("upgrade", "H2C")],
            &[("upgrade", "h2")],
            &[("upgrade", "TLS/1.0, HTTP/2.0")],
            &[("upgrade", "foo/1")],
            &[("upgrade", "h2c"), ("upgrade", "TLS/1.3")],
            &[("upgrade", "")],
            &[("upgrade", "websockets")],
        ];
        for offer in offers {
            for path in ["/", "/user/login", SOCKETS] {
                for method in [Method::GET, Method::POST] {
                    assert_eq!(offer_of(method, path, Version::HTTP_11, offer), IGNORED, "{offer:?} {path}");
                }
            }
        }
    }

    #[test]
    fn websocket_without_connection_is_ignored() {
        let loose = [("upgrade", "websocket"), ("connection", "keep-alive")];
        let ignored = Some(Offer::Ignored { closes: true });
        assert_eq!(offer_of(Method::GET, "/user/me", Version::HTTP_11, &loose), ignored);
        let body = [("upgrade", "websocket"), ("content-length", "2")];
        assert_eq!(
            offer_of(Method::POST, "/rooms", Version::HTTP_11, &body),
            None,
            "the framing is ambiguous"
        );
    }
}

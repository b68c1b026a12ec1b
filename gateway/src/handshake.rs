//! Checks WebSocket handshakes, which a proxy or a client can have damaged. Pure. Called by the checks of the middleware, which
//! refuse the request and log it.

use actix_web::{
    dev::RequestHead,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    web::Query,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    handshake_issue::{HandshakeIssue, VERSION},
    routes::SOCKETS,
};

/// The damage of a request to the socket route that requests no upgrade.
pub(crate) fn missing_upgrade(head: &RequestHead) -> Option<HandshakeIssue> {
    let is_handshake = head.method == Method::GET && head.uri.path() == SOCKETS && names_websocket(head);
    is_handshake.then_some(HandshakeIssue::NoUpgrade)
}

/// Checks a request with `Upgrade: websocket` by RFC 6455 §4.2.1. The version is checked before the key, because another
/// version can have another form of key.
///
/// # Errors
/// The first damage.
pub(crate) fn check(head: &RequestHead) -> Result<(), HandshakeIssue> {
    let headers = &head.headers;
    if !names_websocket(head) {
        return Err(HandshakeIssue::NotWebSocket);
    }
    if !tokens(headers, header::CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return Err(HandshakeIssue::NoConnection);
    }
    if only(headers, header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return Err(HandshakeIssue::Version);
    }
    let key = only(headers, header::SEC_WEBSOCKET_KEY).and_then(|key| STANDARD.decode(key).ok());
    if key.is_none_or(|key| key.len() != 16) {
        return Err(HandshakeIssue::Key);
    }
    Ok(())
}

/// Whether the last `transport` of the query, as Engine.IO reads it, is `websocket`.
fn names_websocket(head: &RequestHead) -> bool {
    let pairs = Query::<Vec<(String, String)>>::from_query(head.uri.query().unwrap_or_default());
    let pairs = pairs.map(Query::into_inner).unwrap_or_default();
    pairs.iter().rev().find(|(name, _)| name == "transport").is_some_and(|(_, value)| value == "websocket")
}

/// The elements of a list header over all its lines.
pub(crate) fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).map(header::HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The value of a header that occurs once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut all = headers.get_all(name);
    all.next().filter(|_| all.next().is_none())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const HANDSHAKE: [(&str, &str); 4] = [
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// The check of a handshake in which `name` has these values.
    fn check_with(query: &str, name: &str, values: &[&str]) -> Result<(), HandshakeIssue> {
        let kept = HANDSHAKE.iter().copied().filter(|(other, _)| *other != name);
        let pairs = kept.chain(values.iter().map(|value| (name, *value)));
        let request = TestRequest::with_uri(&format!("/socket.io/?{query}"));
        let request = pairs.fold(request, |request, pair| request.append_header(pair)).to_http_request();
        check(request.head())
    }

    #[test]
    fn each_damage_of_a_handshake_has_its_own_cause() {
        use HandshakeIssue::{Key, NoConnection, NotWebSocket, Version};
        let good = "EIO=4&transport=websocket";
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        type Checked = Result<(), HandshakeIssue>;
        let table: [(&str, &str, &[&str], Checked); 17] = [
            (good, "x", &[], Ok(())),
            ("transport=polling&EIO=4&transport=web%73ocket", "x", &[], Ok(())),
            (good, "connection", &["keep-alive", "upgrade"], Ok(())),
            (good, "connection", &[], Err(NoConnection)),
            (good, "connection", &["close"], Err(NoConnection)),
            (good, "connection", &["upgrades"], Err(NoConnection)),
            ("EIO=4&transport=polling", "x", &[], Err(NotWebSocket)),
            ("EIO=4&transport=websocket&transport=polling", "x", &[], Err(NotWebSocket)),
            ("", "x", &[], Err(NotWebSocket)),
            (good, "sec-websocket-version", &[], Err(Version)),
            (good, "sec-websocket-version", &["8"], Err(Version)),
            (good, "sec-websocket-version", &["13", "13"], Err(Version)),
            (good, "sec-websocket-key", &[], Err(Key)),
            (good, "sec-websocket-key", &[""], Err(Key)),
            (good, "sec-websocket-key", &["dGhlIHNhbXBsZQ=="], Err(Key)),
            (good, "sec-websocket-key", &["the sample nonce"], Err(Key)),
            (good, "sec-websocket-key", &[key, key], Err(Key)),
        ];
        for (query, name, values, want) in table {
            assert_eq!(check_with(query, name, values), want, "{query} {name}: {values:?}");
        }
    }

    #[test]
    fn a_handshake_without_its_upgrade_is_found_on_the_socket_route_only() {
        let table = [
            (Method::GET, "/socket.io/?EIO=4&transport=websocket", true),
            (Method::GET, "/socket.io/?EIO=4&transport=websocket&sid=x", true),
            (Method::GET, "/socket.io/?EIO=4&transport=polling", false),
            (Method::GET, "/socket.io/", false),
            (Method::POST, "/socket.io/?EIO=4&transport=websocket", false),
            (Method::GET, "/rooms?transport=websocket", false),
        ];
        for (method, uri, is_damaged) in table {
            let request = TestRequest::with_uri(uri).method(method.clone()).to_http_request();
            assert_eq!(missing_upgrade(request.head()).is_some(), is_damaged, "{method} {uri}");
        }
    }
}

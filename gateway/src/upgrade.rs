//! Which upgrades are refused before any handler sees them: an upgrade where none is served makes actix wait for a body
//! that never ends. Pure; called by the door.

use actix_web::http::{
    Method, Version,
    header::{self, HeaderMap},
};

use crate::{error::Error, routes::SOCKETS};

/// Whether the request is a WebSocket handshake; refused when it asks for any other upgrade, anywhere else, or in a form
/// that leaves unclear where the request ends.
pub(crate) fn is_handshake(
    method: &Method,
    path: &str,
    version: Version,
    headers: &HeaderMap,
) -> Result<bool, Error> {
    let mut asked = headers.get_all(header::UPGRADE);
    let Some(protocol) = asked.next() else { return Ok(false) };
    if method != Method::GET || path != SOCKETS {
        return Err(Error::Upgrade("nothing can be upgraded here"));
    }
    if asked.next().is_some() || !protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
        return Err(Error::Upgrade("the only upgrade is to websocket"));
    }
    if version != Version::HTTP_11 {
        return Err(Error::Upgrade("a WebSocket handshake is HTTP/1.1"));
    }
    if headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Error::Upgrade("a WebSocket handshake has no body"));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn ask(
        method: Method,
        path: &str,
        version: Version,
        pairs: &[(&'static str, &'static str)],
    ) -> Option<bool> {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        is_handshake(&method, path, version, &map).ok()
    }

    #[test]
    fn only_a_get_of_the_sockets_path_may_upgrade() {
        let upgrade = [("upgrade", "WebSocket")];
        assert_eq!(ask(Method::GET, SOCKETS, Version::HTTP_11, &upgrade), Some(true));
        assert_eq!(ask(Method::GET, SOCKETS, Version::HTTP_11, &[]), Some(false));
        assert_eq!(ask(Method::POST, "/rooms", Version::HTTP_11, &[]), Some(false));
        assert_eq!(ask(Method::POST, SOCKETS, Version::HTTP_11, &upgrade), None);
        for path in ["/", "/user/me", "/socket.io", "/socket.io/x", "/nowhere"] {
            assert_eq!(ask(Method::GET, path, Version::HTTP_11, &upgrade), None, "{path}");
        }
    }

    #[test]
    fn a_handshake_is_http_1_1_to_websocket_without_a_body() {
        assert_eq!(ask(Method::GET, SOCKETS, Version::HTTP_10, &[("upgrade", "websocket")]), None);
        let refused: [&[(&str, &str)]; 6] = [
            &[("upgrade", "h2c")],
            &[("upgrade", "websocket, h2c")],
            &[("upgrade", "websocket"), ("upgrade", "websocket")],
            &[("upgrade", "websocket"), ("content-length", "5")],
            &[("upgrade", "websocket"), ("content-length", "0")],
            &[("upgrade", "websocket"), ("transfer-encoding", "chunked")],
        ];
        for headers in refused {
            assert_eq!(ask(Method::GET, SOCKETS, Version::HTTP_11, headers), None, "{headers:?}");
        }
    }
}

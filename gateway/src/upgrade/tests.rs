//! Tables of offers and handshakes.

use actix_web::test::TestRequest;

use super::*;

type Headers<'a> = &'a [(&'a str, &'a str)];

fn offer_of(method: Method, path: &str, version: Version, pairs: Headers<'_>) -> Option<Offer> {
    let request = TestRequest::with_uri(path).method(method).version(version);
    let request = pairs.iter().fold(request, |request, pair| request.append_header(*pair));
    offer(request.to_http_request().head()).ok()
}

#[test]
fn only_an_http_1_1_get_of_the_socket_path_without_a_body_may_upgrade() {
    let upgrade = [("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")];
    assert_eq!(offer_of(Method::GET, SOCKETS, Version::HTTP_11, &upgrade), Some(Offer::WebSocket));
    assert_eq!(offer_of(Method::POST, SOCKETS, Version::HTTP_11, &upgrade), None);
    assert_eq!(offer_of(Method::GET, SOCKETS, Version::HTTP_10, &upgrade), None);
    for path in ["/", "/user/me", "/socket.io", "/socket.io/x", "/nowhere"] {
        assert_eq!(offer_of(Method::GET, path, Version::HTTP_11, &upgrade), None, "{path}");
    }
    let empty = [("upgrade", "websocket"), ("content-length", "0")];
    assert_eq!(offer_of(Method::GET, SOCKETS, Version::HTTP_11, &empty), Some(Offer::WebSocket));
    let refused: [Headers<'_>; 5] = [
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
    let offers: [Headers<'_>; 6] = [
        &[],
        &[("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA")],
        &[("upgrade", "TLS/1.0, HTTP/2.0")],
        &[("upgrade", "h2c"), ("upgrade", "TLS/1.3")],
        &[("upgrade", "")],
        &[("upgrade", "websockets")],
    ];
    for offer in offers {
        for path in ["/", "/user/login", SOCKETS] {
            let ignored = Some(Offer::Ignored { closes: false });
            assert_eq!(offer_of(Method::POST, path, Version::HTTP_11, offer), ignored, "{offer:?} {path}");
        }
    }
    let loose = [("upgrade", "websocket"), ("connection", "keep-alive")];
    let closes = Some(Offer::Ignored { closes: true });
    assert_eq!(offer_of(Method::GET, "/user/me", Version::HTTP_11, &loose), closes);
    let body = [("upgrade", "websocket"), ("content-length", "2")];
    assert_eq!(offer_of(Method::POST, "/rooms", Version::HTTP_11, &body), None, "the framing is ambiguous");
}

#[test]
fn a_handshake_has_the_form_of_rfc_6455() {
    let (good, key) = ("EIO=4&transport=websocket", "dGhlIHNhbXBsZSBub25jZQ==");
    let upgrade = |text| Err(Error::Upgrade(text));
    let no_connection = upgrade("the header Upgrade: websocket without Connection: Upgrade");
    let no_transport = upgrade("the header Upgrade: websocket on a request without transport=websocket");
    let no_key = upgrade("Sec-WebSocket-Key is missing, repeated or not 16 bytes in base64");
    type Row<'a> = (&'a str, &'a str, &'a [&'a str], Result<(), Error>);
    let table: [Row<'_>; 13] = [
        (good, "x", &[], Ok(())),
        ("transport=polling&EIO=4&transport=web%73ocket", "x", &[], Ok(())),
        (good, "connection", &["keep-alive", "upgrade"], Ok(())),
        (good, "connection", &[], no_connection),
        (good, "connection", &["upgrades"], no_connection),
        ("EIO=4&transport=websocket&transport=polling", "x", &[], no_transport),
        ("", "x", &[], no_transport),
        (good, "sec-websocket-version", &["8"], Err(Error::WebSocketVersion)),
        (good, "sec-websocket-version", &["13", "13"], Err(Error::WebSocketVersion)),
        (good, "sec-websocket-key", &[], no_key),
        (good, "sec-websocket-key", &["dGhlIHNhbXBsZQ=="], no_key),
        (good, "sec-websocket-key", &["the sample nonce"], no_key),
        (good, "sec-websocket-key", &[key, key], no_key),
    ];
    let handshake = [
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", key),
    ];
    for (query, name, values, want) in table {
        let kept = handshake.iter().copied().filter(|(other, _)| *other != name);
        let pairs = kept.chain(values.iter().map(|value| (name, *value)));
        let request = TestRequest::with_uri(&format!("/socket.io/?{query}"));
        let request = pairs.fold(request, |request, pair| request.append_header(pair)).to_http_request();
        assert_eq!(check_handshake(request.head()), want, "{query} {name}: {values:?}");
    }
}

//! Tables of offers.

use actix_web::test::TestRequest;

use super::*;

type Headers<'a> = &'a [(&'a str, &'a str)];

fn offer_of(method: Method, path: &str, version: Version, pairs: Headers<'_>) -> Option<Offer> {
    let request = TestRequest::with_uri(path).method(method).version(version);
    let request = pairs.iter().fold(request, |request, pair| request.append_header(*pair));
    offer(request.to_http_request().head()).ok()
}

#[test]
fn every_other_offer_is_ignored_on_every_route() {
    let offers: [Headers<'_>; 4] = [
        &[],
        &[("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA")],
        &[("upgrade", "h2c"), ("upgrade", "TLS/1.3")],
        &[("upgrade", "websockets")],
    ];
    for offer in offers {
        for path in ["/", "/user/login", SOCKETS] {
            let ignored = Some(Offer::Ignored { closes: false });
            assert_eq!(offer_of(Method::POST, path, Version::HTTP_11, offer), ignored, "{offer:?} {path}");
        }
    }
    let chunked = [("upgrade", "websocket"), ("transfer-encoding", "chunked")];
    assert_eq!(offer_of(Method::GET, SOCKETS, Version::HTTP_11, &chunked), None, "a handshake has no body");
    let loose = [("upgrade", "websocket"), ("connection", "keep-alive")];
    let closes = Some(Offer::Ignored { closes: true });
    assert_eq!(offer_of(Method::GET, "/user/me", Version::HTTP_11, &loose), closes);
    let body = [("upgrade", "websocket"), ("content-length", "2")];
    assert_eq!(offer_of(Method::POST, "/rooms", Version::HTTP_11, &body), None, "the framing is ambiguous");
}

//! Tables for the headers that the proxy forwards in both directions.

use actix_web::http::header::{HeaderName as OwnName, HeaderValue as OwnValue};

use super::*;

fn sent(pairs: &[(&'static str, &'static str)]) -> OwnHeaders {
    let mut headers = OwnHeaders::new();
    for (name, value) in pairs {
        headers.append(OwnName::from_static(name), OwnValue::from_static(value));
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn only_listed_request_headers_are_forwarded() {
    let headers = request_headers(&sent(&[
        ("cookie", "auth_token=x"),
        ("user-agent", "me"),
        ("x-authenticated-identity", "1:eve"),
        ("x_authenticated_user", "eve"),
        ("x-forwarded-for", "9.9.9.9"),
        ("forwarded", "for=9.9.9.9"),
        ("transfer-encoding", "chunked"),
        ("te", "trailers"),
        ("trailer", "cookie"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
        ("accept-encoding", "gzip"),
        ("sec-websocket-key", "k"),
        ("host", "a"),
        ("x-anything", "y"),
    ]));
    assert_eq!(names(&headers), ["cookie", "user-agent"]);
}

#[test]
fn connection_removes_listed_headers_but_not_essential_ones() {
    let headers = request_headers(&sent(&[
        ("connection", "close, User-Agent ,cookie"),
        ("connection", "authorization,,origin"),
        ("cookie", "auth_token=x"),
        ("authorization", "Bearer x"),
        ("origin", "http://a"),
        ("user-agent", "me"),
    ]));
    assert_eq!(names(&headers), ["authorization", "cookie", "origin"]);
}

#[test]
fn headers_of_the_connection_and_the_software_are_not_returned() {
    let mut received = HeaderMap::new();
    for (name, value) in [
        ("connection", "keep-alive, X-Inner"),
        ("keep-alive", "timeout=5"),
        ("x-inner", "1"),
        ("server", "s"),
        ("x-powered-by", "p"),
        ("transfer-encoding", "chunked"),
        ("content-length", "3"),
        ("date", "d"),
        ("access-control-allow-origin", "*"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-type", "text/plain"),
    ] {
        received.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let headers = response_headers(&received);
    let mut returned: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    returned.sort_unstable();
    assert_eq!(returned, [("content-type", "text/plain"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
}

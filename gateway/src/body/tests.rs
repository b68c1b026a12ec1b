//! Tables for the bodies that a head may declare.

use actix_web::http::header::{HeaderName, HeaderValue};

use super::*;

fn check_headers(method: Method, pairs: &[(&'static str, &'static str)]) -> Result<Body, Error> {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    check(&method, &map, 100)
}

#[test]
fn only_post_put_and_patch_have_bodies() {
    let json = [("content-length", "2"), ("content-type", "application/json")];
    for method in [Method::POST, Method::PUT, Method::PATCH] {
        assert_eq!(check_headers(method.clone(), &json), Ok(Body::Json));
        assert_eq!(check_headers(method.clone(), &[]), Ok(Body::None));
        let empty = [("content-length", "0"), ("content-type", "text/plain")];
        assert_eq!(check_headers(method, &empty), Ok(Body::None));
    }
    for method in [Method::GET, Method::HEAD] {
        assert_eq!(check_headers(method.clone(), &json), Err(Error::UnexpectedBody));
        assert_eq!(check_headers(method.clone(), &[("transfer-encoding", "chunked")]), Ok(Body::Empty));
        assert_eq!(check_headers(method, &[("content-length", "0")]), Ok(Body::None));
    }
}

#[test]
fn a_body_that_may_be_empty_is_undetermined() {
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(check_headers(method, &[("transfer-encoding", "chunked")]), Ok(Body::Empty));
    }
    assert_eq!(check_headers(Method::DELETE, &[("content-length", "0")]), Ok(Body::None));
    assert_eq!(check_headers(Method::DELETE, &[("content-length", "64")]), Ok(Body::Empty));
    assert_eq!(check_headers(Method::DELETE, &[("content-length", "65")]), Err(Error::UnexpectedBody));
}

#[test]
fn a_body_must_be_json_and_no_type_of_a_form() {
    for good in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
        assert_eq!(
            check_headers(Method::POST, &[("content-length", "2"), ("content-type", good)]),
            Ok(Body::Json),
            "{good}"
        );
    }
    let bad = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
        "",
        "text/plain;application/json",
    ];
    for bad in bad {
        let sent = [("content-length", "2"), ("content-type", bad)];
        assert_eq!(check_headers(Method::POST, &sent), Err(Error::MediaType), "{bad}");
    }
    let twice =
        [("content-length", "2"), ("content-type", "application/json"), ("content-type", "text/plain")];
    assert_eq!(check_headers(Method::POST, &twice), Err(Error::MediaType));
}

#[test]
fn a_body_at_the_limit_passes_and_a_larger_one_does_not() {
    let sent = |length| {
        check_headers(Method::POST, &[("content-length", length), ("content-type", "application/json")])
    };
    assert_eq!(sent("100"), Ok(Body::Json));
    assert_eq!(sent("101"), Err(Error::TooLarge));
    assert_eq!(sent("99999999999999999999999"), Err(Error::TooLarge));
}

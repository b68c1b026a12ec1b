//! Tables for origins: what parses, and what passes.

use actix_web::http::header::HeaderValue;

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

fn pass(pairs: &[(&'static str, &'static str)], need: Need) -> Result<Source, Error> {
    let own = Origin::new(false, "chat.example:8080");
    let listed = ["https://app.example".parse().unwrap(), "http://localhost:5173".parse().unwrap()];
    check(&headers(pairs), own.as_ref(), &listed, need)
}

#[test]
fn an_origin_has_a_scheme_a_host_and_a_port_that_may_be_the_usual_one() {
    let same = |a: &str, b: &str| a.parse::<Origin>().unwrap() == b.parse::<Origin>().unwrap();
    assert!(same("http://Example.org", "HTTP://example.org:80"));
    assert!(same("https://example.org", "https://example.org:443"));
    assert!(same("http://[::1]:80", "http://[::1]"));
    assert!(!same("http://example.org", "https://example.org"));
    assert!(!same("http://example.org", "http://example.org:8080"));
    assert!(!same("http://example.org", "http://www.example.org"));
}

#[test]
fn what_is_not_an_origin_is_refused() {
    let bad = [
        "",
        "*",
        "null",
        "example.org",
        "http://",
        "http://*",
        "https://*.example.org",
        "http://a/",
        "http://a/b",
        "http://a?b",
        "http://a#b",
        "http://user@a",
        "http://a:",
        "http://a:x",
        "http://a:65536",
        "http://a:+80",
        "ftp://a",
        "http:a",
        "http://a b",
        "http://a,http://b",
        "file://",
        "http://[::1",
    ];
    for bad in bad {
        assert_eq!(bad.parse::<Origin>(), Err(NotAnOrigin), "{bad}");
    }
}

#[test]
fn programs_and_our_own_pages_pass() {
    for need in [Need::Named, Need::NotForeign] {
        assert_eq!(pass(&[], need), Ok(Source::Own), "a program sends none of this");
        assert_eq!(pass(&[("origin", "http://chat.example:8080")], need), Ok(Source::Own));
        let page = [("origin", "http://chat.example:8080"), ("sec-fetch-site", "same-origin")];
        assert_eq!(pass(&page, need), Ok(Source::Own));
        assert_eq!(
            pass(&[("sec-fetch-mode", "cors")], need),
            Ok(Source::Own),
            "fetch in Node says only this"
        );
    }
    assert_eq!(
        pass(&[("sec-fetch-site", "same-origin")], Need::NotForeign),
        Ok(Source::Own),
        "a poll of our page"
    );
}

#[test]
fn listed_origins_pass_as_such() {
    let page = [("origin", "https://app.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(pass(&page, Need::Named), Ok(Source::Listed));
    assert_eq!(pass(&[("origin", "http://localhost:5173")], Need::NotForeign), Ok(Source::Listed));
}

#[test]
fn every_other_page_is_refused() {
    let foreign: [&[(&str, &str)]; 19] = [
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
        &[("origin", "")],
        &[("origin", "file://")],
        &[("origin", "http://chat.example")],
        &[("origin", "http://chat.example:8081")],
        &[("origin", "https://chat.example:8080")],
        &[("origin", "http://sub.chat.example:8080")],
        &[("origin", "http://chat.example.evil.example:8080")],
        &[("origin", "http://chat.example:8080@evil.example")],
        &[("origin", "http://chat.example:8080/")],
        &[("origin", "http://app.example")],
        &[("origin", "https://app.example:8443")],
        &[("origin", "http://localhost:5174")],
        &[("origin", "http://chat.example:8080"), ("origin", "http://chat.example:8080")],
        &[("origin", "http://chat.example:8080 http://evil.example")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "http://chat.example:8080"), ("sec-fetch-site", "cross-site")],
    ];
    for request in foreign {
        for need in [Need::Named, Need::NotForeign] {
            assert_eq!(pass(request, need), Err(Error::Origin), "{request:?}");
        }
    }
    assert_eq!(
        pass(&[("sec-fetch-site", "same-origin")], Need::Named),
        Err(Error::Origin),
        "a browser that changes something names its origin"
    );
}

#[test]
fn with_two_hosts_no_origin_is_ours() {
    let twice = headers(&[("host", "chat.example"), ("host", "chat.example")]);
    assert_eq!(Origin::own(false, &Uri::from_static("/"), &twice), None);
    assert_eq!(
        check(&headers(&[("origin", "http://chat.example")]), None, &[], Need::Named),
        Err(Error::Origin)
    );
}

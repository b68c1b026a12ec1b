//! Tables for origins: parsing and checks.

use actix_web::http::header::HeaderValue;

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

/// The server's own origin for a client with this scheme. `None` when it is unknown.
fn own(https: Option<bool>, proxied: bool, sent: &[(&'static str, &'static str)]) -> ServerOrigin {
    let client = Client { address: None, https, is_secure: false, proxied, doubt: None };
    ServerOrigin::of(client, &Uri::from_static("/"), &headers(sent))
}

fn check_request(
    own: &ServerOrigin,
    allowed: Allowed<'_>,
    sent: &HeaderMap,
    need: Need,
) -> Result<Source, Error> {
    check(sent, RequestOrigin::of(sent).as_ref(), own, allowed, need)
}

fn check_direct(pairs: &[(&'static str, &'static str)], need: Need) -> Result<Source, Error> {
    let own = own(Some(false), false, &[("host", "chat.example:8080")]);
    let listed = ["https://app.example".parse().unwrap()];
    check_request(&own, Allowed { listed: &listed, opaque: false }, &headers(pairs), need)
}

/// Whether `origin` is the server's own for a client behind a trusted proxy that sent these headers.
fn is_own_behind_proxy(https: Option<bool>, sent: &[(&'static str, &'static str)], origin: &str) -> bool {
    own(https, true, sent).matches(&origin.parse().unwrap())
}

#[test]
fn equivalent_spellings_of_an_origin_are_equal() {
    let same = |a: &str, b: &str| a.parse::<Origin>().unwrap() == b.parse::<Origin>().unwrap();
    assert!(same("ws://Example.org", "HTTP://example.org:80"));
    assert!(same("wss://example.org", "https://example.org:443"));
    assert!(same("https://example.org./", "https://example.org"));
    assert!(same("https://münchen.example", "https://xn--mnchen-3ya.example"));
    assert!(same("http://[2001:DB8:0::1]", "http://[2001:db8::1]:80"));
    assert!(same("http://[FE80::1%25en-0.1]", "http://[fe80::1%eth0]:80"));
    assert!(same("Capacitor://Localhost", "capacitor://localhost"));
    assert!(!same("capacitor://localhost", "ionic://localhost"));
    assert!(!same("http://example.org", "https://example.org"));
    assert!(!same("http://example.org", "http://example.org:8080"));
    assert!(!same("http://example.org", "http://www.example.org"));
}

#[test]
fn origins_with_custom_schemes_can_be_allowed() {
    let apps = [
        "capacitor://localhost",
        "http://tauri.localhost",
        "app://.",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "safari-web-extension://0A1B2C3D-0000-4000-8000-000000000000",
    ];
    let own = own(Some(false), false, &[("host", "chat.example")]);
    for app in apps {
        let listed = [app.parse().unwrap()];
        let mut sent = HeaderMap::new();
        sent.insert(header::ORIGIN, HeaderValue::from_str(app).unwrap());
        let yes = Allowed { listed: &listed, opaque: false };
        assert_eq!(check_request(&own, yes, &sent, Need::Named), Ok(Source::Listed), "{app}");
        let no = Allowed { listed: &[], opaque: true };
        assert_eq!(check_request(&own, no, &sent, Need::Named), Err(Error::Origin), "{app}");
    }
}

#[test]
fn opaque_origins_pass_only_by_their_own_flag() {
    let own = own(Some(false), false, &[("host", "chat.example")]);
    for opaque in ["null", "file://", "file:///", "FILE://", "Null"] {
        assert!(opaque.parse::<Origin>().unwrap_err().contains("--allow-opaque-origin"), "{opaque}");
        let sent = headers(&[("origin", opaque)]);
        for allowed in [true, false] {
            let want = if allowed { Ok(Source::Listed) } else { Err(Error::Origin) };
            let allowed = Allowed { listed: &[], opaque: allowed };
            assert_eq!(check_request(&own, allowed, &sent, Need::Named), want, "{opaque}");
        }
    }
}

#[test]
fn invalid_origins_are_refused_with_a_remedy() {
    let (scheme, form) = ("begins with its scheme", "is a scheme, a host");
    let bad = [
        ("", scheme),
        ("*", "no wildcard"),
        ("example.org", scheme),
        ("https://*.example.org", "no wildcard"),
        ("http://a/b", "no path"),
        ("http://user@a", form),
        ("http://:", form),
        ("http://a:65536", form),
        ("http://a:+80", form),
        ("data://a", form),
        ("1app://a", form),
        ("http://a,b", form),
        ("http://a%eth0", form),
        ("http://999.1.1.1", form),
    ];
    for (bad, why) in bad {
        assert!(bad.parse::<Origin>().unwrap_err().contains(why), "{bad}");
    }
}

#[test]
fn behind_a_proxy_unknown_schemes_and_ports_are_not_compared() {
    let bare = [("host", "chat.example")];
    for origin in ["https://chat.example", "ws://chat.example", "https://chat.example:8443"] {
        assert!(is_own_behind_proxy(None, &bare, origin), "{origin}");
    }
    for origin in ["https://evil.example", "https://sub.chat.example", "capacitor://chat.example"] {
        assert!(!is_own_behind_proxy(None, &bare, origin), "{origin}");
    }
    assert!(!is_own_behind_proxy(Some(true), &bare, "http://chat.example"));
    let port = [("host", "chat.example:8443")];
    assert!(is_own_behind_proxy(None, &port, "https://chat.example:8443"));
    assert!(!is_own_behind_proxy(None, &port, "https://chat.example"));
    let mapped = [("host", "chat.example:80"), ("x-forwarded-port", "443")];
    assert!(is_own_behind_proxy(None, &mapped, "https://chat.example"));
    assert!(!is_own_behind_proxy(None, &mapped, "https://chat.example:8443"));
    // Without a proxy both are compared.
    let usual = own(Some(false), false, &bare);
    assert!(usual.matches(&"ws://chat.example/".parse().unwrap()));
    assert!(!usual.matches(&"http://chat.example:8080".parse().unwrap()));
    assert!(!usual.matches(&"https://chat.example".parse().unwrap()));
}

#[test]
fn a_forwarded_host_of_a_trusted_proxy_precedes_the_host_header() {
    let reports = [
        ("x-forwarded-host", "chat.example"),
        ("x-forwarded-host", "chat.example, inner.example"),
        ("forwarded", "for=192.0.2.7;host=\"chat.example:443\";proto=https"),
    ];
    for report in reports {
        let sent = [("host", "10.0.0.5:8080"), report];
        assert!(is_own_behind_proxy(None, &sent, "https://chat.example"), "{report:?}");
        assert!(!is_own_behind_proxy(None, &sent, "http://10.0.0.5:8080"), "{report:?}");
        let direct = own(Some(false), false, &sent);
        assert!(!direct.matches(&"http://chat.example".parse().unwrap()), "{report:?}");
        assert!(direct.matches(&"http://10.0.0.5:8080".parse().unwrap()), "{report:?}");
    }
}

#[test]
fn programs_own_pages_and_listed_origins_pass() {
    type Row = (&'static [(&'static str, &'static str)], Source);
    let table: [Row; 5] = [
        // Programs send no such headers, and fetch in Node only the second one.
        (&[], Source::Own),
        (&[("sec-fetch-mode", "cors")], Source::Own),
        (&[("origin", "http://chat.example:8080")], Source::Own),
        (&[("origin", "http://chat.example:8080"), ("sec-fetch-site", "same-origin")], Source::Own),
        (&[("origin", "https://app.example"), ("sec-fetch-site", "cross-site")], Source::Listed),
    ];
    for (sent, source) in table {
        for need in [Need::Named, Need::NotForeign] {
            assert_eq!(check_direct(sent, need), Ok(source), "{sent:?}");
        }
    }
    // Browsers send the origin with requests that change state, but not with the poll of an own page.
    let nameless = [("sec-fetch-site", "same-origin")];
    assert_eq!(check_direct(&nameless, Need::NotForeign), Ok(Source::Own));
    assert_eq!(check_direct(&nameless, Need::Named), Err(Error::Origin));
}

#[test]
fn pages_of_other_origins_are_refused() {
    let foreign: [&[(&str, &str)]; 11] = [
        &[("origin", "http://evil.example")],
        &[("origin", "http://chat.example")],
        &[("origin", "https://chat.example:8080")],
        &[("origin", "http://sub.chat.example:8080")],
        &[("origin", "http://chat.example.evil.example:8080")],
        &[("origin", "http://chat.example:8080@evil.example")],
        &[("origin", "https://app.example:8443")],
        &[("origin", "http://chat.example:8080"), ("origin", "http://chat.example:8080")],
        &[("origin", "http://chat.example:8080 http://evil.example")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "http://chat.example:8080"), ("sec-fetch-site", "cross-site")],
    ];
    for request in foreign {
        for need in [Need::Named, Need::NotForeign] {
            assert_eq!(check_direct(request, need), Err(Error::Origin), "{request:?}");
        }
    }
    // With two Host headers no origin is own.
    let twice = own(Some(false), false, &[("host", "chat.example"), ("host", "chat.example")]);
    let no_origins = Allowed { listed: &[], opaque: false };
    let sent = headers(&[("origin", "http://chat.example")]);
    assert_eq!(check_request(&twice, no_origins, &sent, Need::Named), Err(Error::Origin));
}

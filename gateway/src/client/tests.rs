//! Tables for proxies: who is trusted, what a chain means, and which headers never pass.

use actix_web::http::header::HeaderValue;

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value));
    }
    map
}

fn address(peer: &str, chain: &[&'static str]) -> String {
    let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()];
    let chain: Vec<_> = chain.iter().map(|value| ("x-forwarded-for", *value)).collect();
    let client = Client::of(Some(peer.parse().unwrap()), &headers(&chain), &trusted);
    client.address.unwrap().to_string()
}

#[test]
fn a_network_is_an_address_or_a_prefix_that_is_not_too_wide() {
    let within =
        |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
    assert!(within("10.1.2.3", "10.1.2.3") && !within("10.1.2.3", "10.1.2.4"));
    assert!(within("10.0.0.0/8", "10.255.0.1") && !within("10.0.0.0/8", "11.0.0.1"));
    assert!(within("10.9.9.9/24", "10.9.9.200") && within("10.0.0.0/8", "::ffff:10.0.0.1"));
    assert!(within("fd00::/16", "fd00:1::1") && !within("fd00::/16", "fe80::1"));
    for bad in ["", "x", "10.0.0.1/", "10.0.0.1/33", "::1/129", "10.0.0.1/-1", "10.0.0.1/8/8"] {
        assert_eq!(bad.parse::<Network>(), Err(NotANetwork::Malformed), "{bad}");
    }
    for wide in ["0.0.0.0/0", "10.0.0.0/7", "::/0", "::/15"] {
        assert_eq!(wide.parse::<Network>(), Err(NotANetwork::TooWide), "{wide}");
    }
}

#[test]
fn only_a_trusted_peer_may_speak_for_others() {
    assert_eq!(address("203.0.113.9:1", &["198.51.100.1"]), "203.0.113.9");
    assert_eq!(address("10.0.0.1:1", &["198.51.100.1"]), "198.51.100.1");
    assert_eq!(address("[::ffff:10.0.0.1]:1", &["198.51.100.1"]), "198.51.100.1");
    assert_eq!(address("10.0.0.1:1", &[]), "10.0.0.1");
}

#[test]
fn of_a_chain_the_nearest_stranger_counts_whatever_it_claims_before_itself() {
    assert_eq!(address("10.0.0.1:1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
    assert_eq!(address("10.0.0.1:1", &["1.1.1.1", "198.51.100.1"]), "198.51.100.1");
    assert_eq!(address("10.0.0.1:1", &["1.1.1.1, junk"]), "10.0.0.1");
    assert_eq!(address("10.0.0.1:1", &["1.1.1.1, junk, 10.0.0.2"]), "10.0.0.2");
}

#[test]
fn ipv6_clients_are_counted_by_their_64() {
    let counted =
        |peer: &str| Client::of(Some(peer.parse().unwrap()), &HeaderMap::new(), &[]).counted().unwrap();
    assert_eq!(counted("[2001:db8:1:2:3::4]:1"), counted("[2001:db8:1:2:ffff::9]:2"));
    assert_ne!(counted("[2001:db8:1:2::1]:1"), counted("[2001:db8:1:3::1]:1"));
    assert_ne!(counted("127.0.0.1:1"), counted("127.0.0.2:1"));
    assert_eq!(counted("[::ffff:127.0.0.1]:1"), counted("127.0.0.1:1"));
}

#[test]
fn tls_is_what_the_nearest_trusted_proxy_says() {
    let https = |peer: &str, value: &'static str| {
        let trusted = ["10.0.0.1".parse().unwrap()];
        Client::of(Some(peer.parse().unwrap()), &headers(&[("x-forwarded-proto", value)]), &trusted).https
    };
    assert!(https("10.0.0.1:1", "https") && https("10.0.0.1:1", "http, HTTPS"));
    assert!(!https("10.0.0.1:1", "https, http") && !https("10.0.0.2:1", "https"));
}

#[test]
fn identity_headers_never_pass_and_forwarding_ones_only_from_a_proxy() {
    let names = [
        "x-authenticated-user",
        "x_authenticated_user",
        "x-authenticated_user",
        "X-Authenticated-Session",
        "x-real-ip",
        "x-authenticated-anything",
        "remote_user",
        "x-forwarded-user",
        "x-forwarded-for",
        "x_forwarded_for",
        "forwarded",
        "x-forwarded-proto",
        "cookie",
        "x-request-id",
    ];
    let left = |proxied: bool| {
        let mut map = HeaderMap::new();
        for name in names {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("eve"));
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("mallory"));
        }
        strip(&mut map, proxied);
        let mut left: Vec<_> = map.keys().map(|name| name.as_str().to_owned()).collect();
        left.sort_unstable();
        left
    };
    assert_eq!(left(false), ["cookie", "x-request-id"]);
    assert_eq!(left(true), ["cookie", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-request-id"]);
}

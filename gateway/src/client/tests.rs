//! Tables for forwarding headers: trusted peers, chains, headers of common products, and removed headers.

use super::*;

/// Headers of a request.
type Sent = &'static [(&'static str, &'static str)];

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

/// The client of a request from `peer`. 10.0.0.0/8 and fd00::/16 are trusted.
fn of(peer: &str, sent: &[(&str, &str)]) -> Client {
    let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()];
    Client::of(Some(peer.parse().unwrap()), &headers(sent), &trusted)
}

fn locate(sent: &[(&str, &str)]) -> (String, Option<ForwardingIssue>) {
    let client = of("10.0.0.1:1", sent);
    (client.address.unwrap().to_string(), client.issue)
}

#[test]
fn only_a_trusted_peer_may_name_other_clients() {
    let address = |peer: &str| of(peer, &[("x-forwarded-for", "198.51.100.1")]).address.unwrap().to_string();
    assert_eq!(address("10.0.0.1:1"), "198.51.100.1");
    assert_eq!(address("[::ffff:10.0.0.1]:1"), "198.51.100.1");
    assert_eq!(address("203.0.113.9:1"), "203.0.113.9");
}

#[test]
fn the_client_headers_of_common_products_are_parsed() {
    const CLIENT: &str = "198.51.100.7";
    let products: [(&str, Sent); 17] = [
        ("nginx", &[("x-forwarded-for", CLIENT), ("x-real-ip", CLIENT)]),
        ("nginx, appending", &[("x-forwarded-for", "1.1.1.1, 198.51.100.7")]),
        ("nginx with X-Real-IP alone", &[("x-real-ip", CLIENT)]),
        (
            "nginx behind a trusted balancer",
            &[("x-forwarded-for", "198.51.100.7, 10.0.0.2"), ("x-real-ip", "10.0.0.2")],
        ),
        ("HAProxy, a line of its own", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", CLIENT)]),
        ("HAProxy, option forwarded", &[("forwarded", "proto=https;for=198.51.100.7")]),
        ("Envoy", &[("x-forwarded-for", "198.51.100.7,10.0.0.3"), ("x-envoy-external-address", CLIENT)]),
        ("Traefik", &[("x-forwarded-for", CLIENT), ("x-real-ip", CLIENT), ("x-forwarded-server", "t")]),
        ("Caddy", &[("x-forwarded-for", CLIENT), ("x-forwarded-proto", "https"), ("x-forwarded-host", "a")]),
        ("AWS ALB with client ports", &[("x-forwarded-for", "198.51.100.7:40500")]),
        (
            "AWS API Gateway",
            &[("forwarded", "by=10.0.0.9;for=198.51.100.7;host=a;proto=https"), ("x-forwarded-for", CLIENT)],
        ),
        ("Azure Application Gateway", &[("x-forwarded-for", "198.51.100.7:40500, 10.0.0.2:1")]),
        ("Google, trusted balancer", &[("x-forwarded-for", "9.9.9.9,198.51.100.7,10.0.0.4")]),
        (
            "Cloudflare, trusted",
            &[("x-forwarded-for", "198.51.100.7,10.0.0.5"), ("cf-connecting-ip", CLIENT)],
        ),
        ("a mapped address", &[("x-forwarded-for", "::ffff:198.51.100.7")]),
        ("an obfuscated name and an address", &[("forwarded", "for=_SEVKISEK"), ("x-forwarded-for", CLIENT)]),
        ("a quoted node", &[("forwarded", "for=\"198.51.100.7:1\", for=\"[fd00::1]:2\"")]),
    ];
    for (product, sent) in products {
        assert_eq!(locate(sent), (CLIENT.to_owned(), None), "{product}");
    }
    let six = [("forwarded", "For=\"[2001:db8:cafe::17]:4711\"")];
    assert_eq!(locate(&six), ("2001:db8:cafe::17".to_owned(), None));
}

#[test]
fn ambiguous_headers_are_reported_and_the_certain_address_counts() {
    use ForwardingIssue::{Absent, Cdn, Contradiction, Scheme, Unlisted, Unreadable};
    let table: [(Sent, &str, ForwardingIssue); 15] = [
        (&[], "10.0.0.1", Absent),
        (&[("x-forwarded-proto", "https")], "10.0.0.1", Absent),
        (&[("x-forwarded-for", "unknown")], "10.0.0.1", Unreadable("x-forwarded-for")),
        (&[("x-forwarded-for", "1.1.1.1, junk")], "10.0.0.1", Unreadable("x-forwarded-for")),
        (&[("x-forwarded-for", "1.1.1.1, junk, 10.0.0.2")], "10.0.0.2", Unreadable("x-forwarded-for")),
        (&[("forwarded", "for=_hidden;proto=https")], "10.0.0.1", Unreadable("forwarded")),
        (&[("x-real-ip", "-")], "10.0.0.1", Unreadable("x-real-ip")),
        // A client opens a quoted string and the proxy appends to it.
        (&[("forwarded", "for=9.9.9.9;x=\", for=192.0.2.7")], "10.0.0.1", Unreadable("forwarded")),
        // nginx on a Unix socket, and a header that the proxy forwards from the client.
        (
            &[("x-forwarded-for", "unix:"), ("x-real-ip", "9.9.9.9")],
            "10.0.0.1",
            Unreadable("x-forwarded-for"),
        ),
        (
            &[("x-forwarded-for", "10.0.0.2"), ("forwarded", "for=9.9.9.9")],
            "10.0.0.1",
            Contradiction("x-forwarded-for", "forwarded"),
        ),
        (
            &[("x-forwarded-for", "1.1.1.1"), ("x-real-ip", "198.51.100.7")],
            "10.0.0.1",
            Contradiction("x-forwarded-for", "x-real-ip"),
        ),
        (
            &[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2")],
            "10.0.0.1",
            Contradiction("x-forwarded-for", "forwarded"),
        ),
        (
            &[("x-forwarded-for", "1.1.1.1, 192.168.1.1")],
            "192.168.1.1",
            Unlisted("192.168.1.1".parse().unwrap()),
        ),
        (
            &[("x-forwarded-for", "1.1.1.1, 162.158.1.1"), ("cf-connecting-ip", "1.1.1.1")],
            "162.158.1.1",
            Cdn("cf-connecting-ip"),
        ),
        (
            &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "tls")],
            "1.1.1.1",
            Scheme("x-forwarded-proto"),
        ),
    ];
    for (sent, address, issue) in table {
        assert_eq!(locate(sent), (address.to_owned(), Some(issue)), "{sent:?}");
    }
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-proto", "cf-connecting-ip"] {
        assert_eq!(
            of("203.0.113.9:1", &[(header, "1.1.1.1")]).issue,
            Some(ForwardingIssue::Untrusted(header)),
            "{header}"
        );
    }
    assert_eq!(of("203.0.113.9:1", &[("cookie", "a=b")]).issue, None);
}

/// Each header with a client's address of a product, in the form that the product writes.
const VENDORS: [(&str, &str); 16] = [
    ("x-original-forwarded-for", "9.9.9.9, 198.51.100.7"),
    ("true-client-ip", "198.51.100.7"),
    ("cf-connecting-ip", "198.51.100.7"),
    ("x-client-ip", "198.51.100.7"),
    ("client-ip", "198.51.100.7"),
    ("fastly-client-ip", "198.51.100.7"),
    ("x-azure-clientip", "198.51.100.7"),
    ("x-azure-socketip", "198.51.100.7"),
    ("x-envoy-external-address", "198.51.100.7"),
    ("x-cluster-client-ip", "198.51.100.7"),
    ("cloudfront-viewer-address", "198.51.100.7:46532"),
    ("x-appengine-user-ip", "198.51.100.7"),
    ("x-appengine-remote-addr", "198.51.100.7"),
    ("fly-client-ip", "198.51.100.7"),
    ("x-sucuri-clientip", "198.51.100.7"),
    ("wl-proxy-client-ip", "198.51.100.7:46532"),
];

#[test]
fn address_headers_of_products_are_named_in_a_warning_and_never_choose_the_address() {
    use ForwardingIssue::{Cdn, Untrusted, Unused};
    for (header, value) in VENDORS {
        let vendor = (header, value);
        assert_eq!(of("203.0.113.9:1", &[vendor]).issue, Some(Untrusted(header)), "{header}: untrusted peer");
        assert_eq!(of("203.0.113.9:1", &[vendor]).address, "203.0.113.9".parse().ok(), "{header}");
        assert_eq!(locate(&[vendor]), ("10.0.0.1".into(), Some(Unused(header))), "{header}: alone");
        let unnamed = [vendor, ("x-forwarded-proto", "https")];
        assert_eq!(locate(&unnamed), ("10.0.0.1".into(), Some(Unused(header))), "{header}: no address");
        for standard in
            [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1"), ("x-real-ip", "1.1.1.1")]
        {
            let both = [vendor, standard];
            assert_eq!(locate(&both), ("1.1.1.1".into(), Some(Cdn(header))), "{header} beside {standard:?}");
        }
        let agreed = [vendor, ("x-forwarded-for", "198.51.100.7")];
        assert_eq!(locate(&agreed), ("198.51.100.7".into(), None), "{header}: agrees");
    }
}

#[test]
fn load_balancers_with_public_addresses_are_detected() {
    use ForwardingIssue::Cdn;
    let names = |sent: &[(&str, &str)]| of("10.0.0.1:1", sent).preceding.map(|named| named.to_string());
    let relayed: [(&str, Sent, Option<&str>); 5] = [
        (
            "Google's load balancer",
            &[("x-forwarded-for", "198.51.100.7, 203.0.113.80")],
            Some("198.51.100.7"),
        ),
        (
            "the same behind a trusted one",
            &[("x-forwarded-for", "198.51.100.7,203.0.113.80,10.0.0.2")],
            Some("198.51.100.7"),
        ),
        ("Forwarded", &[("forwarded", "for=198.51.100.7, for=203.0.113.80")], Some("198.51.100.7")),
        ("a client", &[("x-forwarded-for", "198.51.100.7")], None),
        ("a client behind a trusted proxy", &[("x-forwarded-for", "198.51.100.7, 10.0.0.2")], None),
    ];
    for (what, sent, want) in relayed {
        assert_eq!(names(sent).as_deref(), want, "{what}");
    }
    let cdns: [(Sent, Option<ForwardingIssue>); 7] = [
        (
            &[("x-forwarded-for", "130.176.1.1"), ("cloudfront-viewer-address", "198.51.100.7:443")],
            Some(Cdn("cloudfront-viewer-address")),
        ),
        (
            &[("x-forwarded-for", "10.0.0.3"), ("cloudfront-viewer-address", "198.51.100.7:443")],
            Some(Cdn("cloudfront-viewer-address")),
        ),
        (&[("x-forwarded-for", "198.51.100.7"), ("cloudfront-viewer-address", "198.51.100.7:443")], None),
        (&[("x-forwarded-for", "2001:db8::7"), ("cloudfront-viewer-address", "2001:db8::7:443")], None),
        (
            &[("x-forwarded-for", "203.0.113.80"), ("x-envoy-external-address", "198.51.100.7")],
            Some(Cdn("x-envoy-external-address")),
        ),
        (
            &[("x-forwarded-for", "203.0.113.80"), ("do-connecting-ip", "198.51.100.7")],
            Some(Cdn("do-connecting-ip")),
        ),
        (&[("x-forwarded-for", "198.51.100.7"), ("x-envoy-external-address", "198.51.100.7")], None),
    ];
    for (sent, issue) in cdns {
        assert_eq!(locate(sent).1, issue, "{sent:?}");
    }
}

#[test]
fn the_nearest_untrusted_address_of_a_chain_counts() {
    let address = |lines: &[&str]| {
        let sent: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        locate(&sent).0
    };
    assert_eq!(address(&["1.1.1.1, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
    assert_eq!(address(&["1.1.1.1", "198.51.100.1"]), "198.51.100.1");
    assert_eq!(address(&["10.1.1.1, 10.0.0.2"]), "10.1.1.1", "all addresses are trusted");
}

#[test]
fn ipv6_clients_are_counted_by_64_bit_prefix() {
    let counted = |peer: &str| of(peer, &[]).counted().unwrap();
    assert_eq!(counted("[2001:db8:1:2:3::4]:1"), counted("[2001:db8:1:2:ffff::9]:2"));
    assert_ne!(counted("[2001:db8:1:2::1]:1"), counted("[2001:db8:1:3::1]:1"));
    assert_ne!(counted("127.0.0.1:1"), counted("127.0.0.2:1"));
    assert_eq!(counted("[::ffff:127.0.0.1]:1"), counted("127.0.0.1:1"));
}

#[test]
fn the_scheme_is_certain_when_all_headers_agree() {
    let scheme = |peer: &str, sent: &[(&str, &str)]| {
        let client = of(peer, sent);
        (client.https, client.is_secure)
    };
    let proto = |value| [("x-forwarded-proto", value)];
    assert_eq!(scheme("10.0.0.1:1", &[]), (None, false));
    assert_eq!(scheme("10.0.0.1:1", &proto("https")), (Some(true), true));
    assert_eq!(scheme("10.0.0.1:1", &proto("HTTPS, https")), (Some(true), true));
    assert_eq!(scheme("10.0.0.1:1", &proto("http")), (Some(false), false));
    assert_eq!(scheme("10.0.0.1:1", &proto("https, http")), (None, true), "the client side is first");
    let cdn = [("x-forwarded-proto", "http"), ("cloudfront-forwarded-proto", "https")];
    assert_eq!(scheme("10.0.0.1:1", &cdn), (None, false));
    assert_eq!(scheme("203.0.113.9:1", &proto("https")), (Some(false), false), "not trusted");
}

/// The header, and whether the value means TLS.
const SCHEMES: [(&str, &str, bool); 17] = [
    ("x-arr-ssl", "2048|256|C=US, S=WA, O=Microsoft|CN=chat.example", true),
    ("cf-visitor", r#"{"scheme":"https"}"#, true),
    ("cf-visitor", r#"{"other":[1,2],"scheme":"http"}"#, false),
    ("x-forwarded-ssl", "on", true),
    ("x-forwarded-ssl", "off", false),
    ("front-end-https", "On", true),
    ("x-url-scheme", "https", true),
    ("x-url-scheme", "http", false),
    ("x-forwarded-scheme", "https", true),
    ("x-forwarded-protocol", "https", true),
    ("x-scheme", "http", false),
    ("cloudfront-forwarded-proto", "https", true),
    ("cloudfront-forwarded-proto", "http", false),
    ("fastly-ssl", "1", true),
    ("wl-proxy-ssl", "true", true),
    ("x-https", "0", false),
    ("x-forwarded-https", "on", true),
];

#[test]
fn scheme_headers_of_products_count_from_a_trusted_proxy_only() {
    let scheme = |peer, sent: &[(&str, &str)]| {
        let client = of(peer, sent);
        (client.https, client.is_secure)
    };
    for (header, value, is_https) in SCHEMES {
        let vendor = (header, value);
        assert_eq!(scheme("10.0.0.1:1", &[vendor]), (Some(is_https), is_https), "{vendor:?}");
        assert_eq!(scheme("203.0.113.9:1", &[vendor]), (Some(false), false), "{vendor:?}: not trusted");
        let issue = of("203.0.113.9:1", &[vendor]).issue;
        assert_eq!(issue, Some(ForwardingIssue::Untrusted(header)), "{vendor:?}: not trusted");
        // A header that the proxy forwards from the client makes the scheme uncertain at most.
        let other = ("x-forwarded-proto", if is_https { "http" } else { "https" });
        assert_eq!(scheme("10.0.0.1:1", &[vendor, other]), (None, !is_https), "{vendor:?} against {other:?}");
        let bad = of("10.0.0.1:1", &[(header, "?"), ("x-forwarded-for", "1.1.1.1")]);
        // The value of X-ARR-SSL is free text.
        let issue = (header != "x-arr-ssl").then_some(ForwardingIssue::Scheme(header));
        assert_eq!(bad.issue, issue, "{header}");
    }
}

#[test]
fn forwarding_headers_are_replaced_behind_a_trusted_proxy_and_removed_otherwise() {
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
        "x-forwarded-host",
        "forwarded",
        "x-forwarded-proto",
        "cookie",
        "x-request-id",
    ];
    let left = |client: Client| {
        let sent: Vec<_> = names.iter().flat_map(|name| [(*name, "eve"), (*name, "mallory")]).collect();
        let mut map = headers(&sent);
        replace(&mut map, client);
        let mut left: Vec<_> = map.keys().map(|name| name.as_str().to_owned()).collect();
        left.sort_unstable();
        (left, map.get_all(FORWARDED_FOR).map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(left(of("203.0.113.9:1", &[])), (vec!["cookie".into(), "x-request-id".into()], vec![]));
    let proxied = of("10.0.0.1:1", &[("x-forwarded-for", "198.51.100.7:1")]);
    let want = ["cookie", "x-forwarded-for", "x-forwarded-proto", "x-request-id"].map(str::to_owned).to_vec();
    assert_eq!(left(proxied), (want, vec!["198.51.100.7".to_owned()]));
}

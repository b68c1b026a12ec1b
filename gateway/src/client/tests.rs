//! Tables for forwarding headers: trusted peers, chains, schemes, hosts, and removed headers.

use super::*;

/// Headers of a request.
type Sent = &'static [(&'static str, &'static str)];

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

/// The client of a request from `peer`. 10.0.0.0/8 and fd00::/16 are trusted.
fn of(peer: &str, sent: &[(&str, &str)]) -> Client {
    let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()];
    Client::of(Some(peer.parse().unwrap()), &headers(sent), &trusted)
}

fn locate(sent: &[(&str, &str)]) -> (String, Option<Doubt>) {
    let client = of("10.0.0.1:1", sent);
    (client.address.unwrap().to_string(), client.doubt)
}

#[test]
fn only_a_trusted_peer_may_name_other_clients() {
    let address = |peer: &str| of(peer, &[("x-forwarded-for", "198.51.100.1")]).address.unwrap().to_string();
    assert_eq!(address("10.0.0.1:1"), "198.51.100.1");
    assert_eq!(address("[::ffff:10.0.0.1]:1"), "198.51.100.1");
    assert_eq!(address("203.0.113.9:1"), "203.0.113.9");
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-proto"] {
        assert_eq!(of("203.0.113.9:1", &[(header, "1.1.1.1")]).doubt, Some(Doubt::Untrusted), "{header}");
    }
    assert_eq!(of("203.0.113.9:1", &[("cookie", "a=b")]).doubt, None);
}

#[test]
fn the_client_headers_of_common_products_are_parsed() {
    const CLIENT: &str = "198.51.100.7";
    let products: [(&str, Sent); 9] = [
        ("nginx, appending", &[("x-forwarded-for", "1.1.1.1, 198.51.100.7")]),
        ("nginx with X-Real-IP alone", &[("x-real-ip", CLIENT)]),
        ("nginx and balancer", &[("x-forwarded-for", "198.51.100.7, 10.0.0.2"), ("x-real-ip", "10.0.0.2")]),
        ("HAProxy, a line of its own", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", CLIENT)]),
        ("AWS ALB with client ports", &[("x-forwarded-for", "198.51.100.7:40500")]),
        (
            "AWS API Gateway",
            &[("forwarded", "by=10.0.0.9;for=198.51.100.7;host=a;proto=https"), ("x-forwarded-for", CLIENT)],
        ),
        ("a forged chain", &[("x-forwarded-for", "1.1.1.1, 10.0.0.9, 198.51.100.7, 10.0.0.2")]),
        ("an obfuscated name and an address", &[("forwarded", "for=_SEVKISEK"), ("x-forwarded-for", CLIENT)]),
        ("a quoted node", &[("forwarded", "for=\"198.51.100.7:1\", for=\"[fd00::1]:2\"")]),
    ];
    for (product, sent) in products {
        assert_eq!(locate(sent), (CLIENT.to_owned(), None), "{product}");
    }
    assert_eq!(locate(&[("x-forwarded-for", "10.1.1.1, 10.0.0.2")]), ("10.1.1.1".to_owned(), None));
}

#[test]
fn in_doubt_the_certain_address_counts() {
    use Doubt::{Contradiction, Nameless};
    let table: [(Sent, &str, Doubt); 9] = [
        (&[], "10.0.0.1", Nameless),
        (&[("x-forwarded-proto", "https")], "10.0.0.1", Nameless),
        (&[("x-forwarded-for", "1.1.1.1, junk")], "10.0.0.1", Nameless),
        (&[("x-forwarded-for", "1.1.1.1, junk, 10.0.0.2")], "10.0.0.2", Nameless),
        (&[("forwarded", "for=_hidden;proto=https")], "10.0.0.1", Nameless),
        // A client opens a quoted string and the proxy appends to it.
        (&[("forwarded", "for=9.9.9.9;x=\", for=192.0.2.7")], "10.0.0.1", Nameless),
        // nginx on a Unix socket, and a header that the proxy forwards from the client.
        (&[("x-forwarded-for", "unix:"), ("x-real-ip", "9.9.9.9")], "10.0.0.1", Contradiction),
        (&[("x-forwarded-for", "10.0.0.2"), ("forwarded", "for=9.9.9.9")], "10.0.0.1", Contradiction),
        (&[("x-forwarded-for", "1.1.1.1"), ("x-real-ip", "198.51.100.7")], "10.0.0.1", Contradiction),
    ];
    for (sent, address, doubt) in table {
        assert_eq!(locate(sent), (address.to_owned(), Some(doubt)), "{sent:?}");
    }
}

#[test]
fn an_address_may_have_a_port_brackets_quotes_and_a_zone() {
    let same = [
        (" 192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7:49152", "192.0.2.7"),
        ("\"192.0.2.7:49152\"", "192.0.2.7"),
        ("192.0.2.7:_hidden", "192.0.2.7"),
        ("[2001:DB8::7]:49152", "2001:db8::7"),
        ("[fe80::7%25eth0]:1", "fe80::7"),
        ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
    ];
    for (text, want) in same {
        assert_eq!(parse_address(text), Some(want.parse().unwrap()), "{text}");
    }
    for text in ["", "_hidden", "localhost", "192.0.2.7:", "192.0.2.7:x", "[2001:db8::7", "2001:db8::7]"] {
        assert_eq!(parse_address(text), None, "{text}");
    }
}

#[test]
fn forwarded_is_parsed_as_in_rfc_7239() {
    let read = |lines: &[&str], name| {
        let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        let values = forwarded(&headers(&lines), name).into_iter();
        values.map(|value| value.unwrap_or_else(|| "none".to_owned())).collect::<Vec<_>>()
    };
    let line = ["by=203.0.113.43;For=\"[2001:db8:cafe::17]:4711\" ; host=\"chat.example:8443\";PROTO=https"];
    assert_eq!(read(&line, "for"), ["[2001:db8:cafe::17]:4711"]);
    assert_eq!(read(&line, "host"), ["chat.example:8443"]);
    assert_eq!(read(&line, "proto"), ["https"]);
    assert_eq!(
        read(&["for=192.0.2.43, for=_x;proto=http", "proto=ws,,"], "for"),
        ["192.0.2.43", "_x", "none"]
    );
    assert_eq!(read(&[r#"for="a,b;c\"d";proto=https"#], "for"), [r#"a,b;c"d"#]);
    assert_eq!(read(&["nonsense", ";;=", "for"], "for"), ["none", "none", "none"]);
}

#[test]
fn the_scheme_is_certain_when_all_headers_agree() {
    let scheme = |peer: &str, sent: &[(&str, &str)]| {
        let client = of(peer, sent);
        (client.https, client.is_secure)
    };
    let table: [(Sent, (Option<bool>, bool)); 9] = [
        (&[], (None, false)),
        (&[("x-forwarded-proto", "HTTPS, https")], (Some(true), true)),
        (&[("x-forwarded-proto", "http")], (Some(false), false)),
        (&[("x-forwarded-proto", "tls")], (None, false)),
        // The client side is first.
        (&[("x-forwarded-proto", "https, http")], (None, true)),
        (&[("x-forwarded-proto", "http"), ("forwarded", "for=1.1.1.1;proto=https")], (None, false)),
        (&[("forwarded", "for=1.1.1.1;proto=https")], (Some(true), true)),
        (&[("x-forwarded-port", "443")], (Some(true), true)),
        (&[("x-forwarded-port", "8443")], (None, false)),
    ];
    for (sent, want) in table {
        assert_eq!(scheme("10.0.0.1:1", sent), want, "{sent:?}");
        assert_eq!(scheme("203.0.113.9:1", sent), (Some(false), false), "{sent:?}: not trusted");
    }
}

//! Tables for the header formats of common products.

use actix_web::http::header::{HeaderName, HeaderValue};

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

#[test]
fn an_address_may_have_a_port_brackets_quotes_and_a_zone() {
    let same = [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7:49152", "192.0.2.7"),
        ("\"192.0.2.7:49152\"", "192.0.2.7"),
        ("192.0.2.7:_hidden", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:DB8::7]:49152", "2001:db8::7"),
        ("\"[2001:db8::7]:49152\"", "2001:db8::7"),
        ("fe80::7%eth0", "fe80::7"),
        ("[fe80::7%25eth0]:1", "fe80::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
    ];
    for (text, want) in same {
        assert_eq!(address(text), Some(want.parse().unwrap()), "{text}");
    }
    let none = [
        "",
        "unknown",
        "_hidden",
        "-",
        "localhost",
        "192.0.2.7:",
        "192.0.2.7:x",
        "192.0.2.7:99999",
        "192.0.2",
        "[2001:db8::7",
        "[2001:db8::7]x",
        "2001:db8::7]",
        "(null)",
        "192.0.2.7 192.0.2.8",
    ];
    for text in none {
        assert_eq!(address(text), None, "{text}");
    }
}

#[test]
fn forwarded_is_parsed_as_in_rfc_7239() {
    let read = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        let nodes = forwarded(&headers(&lines)).into_iter();
        nodes
            .map(|element| {
                let text = |part: Option<String>| part.unwrap_or_default();
                format!("{} {} {}", text(element.node), text(element.proto), text(element.host))
                    .trim()
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    // Examples of AWS API Gateway, HAProxy and the RFC.
    assert_eq!(
        read(&["by=203.0.113.43;for=192.0.2.7;host=chat.example;proto=https"]),
        ["192.0.2.7 https chat.example"]
    );
    assert_eq!(read(&["proto=http;for=127.0.0.1"]), ["127.0.0.1 http"]);
    assert_eq!(
        read(&["host=\"chat.example:8443\";by=_haproxy;for=\"[::1]:10\""]),
        ["[::1]:10  chat.example:8443"]
    );
    assert_eq!(read(&["for=\"_gazonk\""]), ["_gazonk"]);
    assert_eq!(read(&["For=\"[2001:db8:cafe::17]:4711\" ; PROTO=https"]), ["[2001:db8:cafe::17]:4711 https"]);
    assert_eq!(read(&["for=192.0.2.43, for=198.51.100.17"]), ["192.0.2.43", "198.51.100.17"]);
    assert_eq!(read(&["for=192.0.2.43", "for=unknown,,"]), ["192.0.2.43", "unknown"]);
    assert_eq!(read(&[r#"for="a,b;c\"d";proto=https"#]), [r#"a,b;c"d https"#]);
    assert_eq!(read(&["nonsense", ";;=", "for"]), ["", "", ""]);
}

#[test]
fn chains_are_in_order_of_precedence_without_empty_elements() {
    let one = |address: &str| Some(address.parse().unwrap());
    let all = headers(&[
        ("x-real-ip", "192.0.2.1"),
        ("forwarded", "for=192.0.2.2;proto=https"),
        ("forwarded", "proto=http"),
        ("x-forwarded-for", "192.0.2.3, ,unknown"),
        ("x-forwarded-for", "192.0.2.4:1,"),
    ]);
    let want = [
        Chain { header: FORWARDED_FOR, hops: vec![one("192.0.2.3"), None, one("192.0.2.4")] },
        Chain { header: FORWARDED, hops: vec![one("192.0.2.2"), None] },
        Chain { header: REAL_IP, hops: vec![one("192.0.2.1")] },
    ];
    assert_eq!(chains(&all), want);
    assert_eq!(chains(&headers(&[("x-forwarded-for", " ,"), ("forwarded", "proto=https")])), []);
    let odd = chains(&headers(&[("x-forwarded-for", "192.0.2.3, \u{e9}")]));
    assert_eq!(odd, [Chain { header: FORWARDED_FOR, hops: vec![None] }]);
}

#[test]
fn the_scheme_headers_of_common_products_are_parsed() {
    use Scheme::{Http, Https, Unreadable};
    let table: [(Sent, &[Scheme]); 14] = [
        (&[], &[]),
        (&[("x-forwarded-proto", "https")], &[Https]),
        (&[("x-forwarded-proto", "https,http")], &[Https, Http]),
        (&[("x-forwarded-proto", "wss")], &[Https]),
        (&[("x-forwarded-proto", "WS")], &[Http]),
        (&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")], &[Https, Http]),
        (&[("x-forwarded-scheme", "https"), ("x-scheme", "https")], &[Https, Https]),
        (&[("x-forwarded-ssl", "on")], &[Https]),
        (&[("x-forwarded-ssl", "off")], &[Http]),
        (&[("front-end-https", "On")], &[Https]),
        (&[("x-forwarded-port", "443")], &[Https]),
        (&[("x-forwarded-port", "8443")], &[]),
        (&[("cloudfront-forwarded-proto", "https"), ("x-forwarded-proto", "http")], &[Http, Https]),
        (
            &[("forwarded", "for=192.0.2.7;proto=https"), ("x-forwarded-proto", "htps")],
            &[Unreadable("x-forwarded-proto"), Https],
        ),
    ];
    for (sent, want) in table {
        assert_eq!(schemes(&headers(sent)), want, "{sent:?}");
    }
}

#[test]
fn all_forwarded_hosts_are_returned() {
    let sent = headers(&[
        ("x-forwarded-host", "chat.example, inner"),
        ("x-original-host", "chat.azure.example"),
        ("forwarded", "host=\"chat.example:8443\""),
    ]);
    assert_eq!(hosts(&sent), ["chat.example", "inner", "chat.azure.example", "chat.example:8443"]);
}

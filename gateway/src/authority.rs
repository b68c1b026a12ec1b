//! Parses a host with an optional port into canonical form, so that all spellings of one host are equal. Pure. Called by
//! `origin`.

use url::Host;

/// Parses `host[:port]` of an `http` or `https` URL. The host becomes lower case, punycode, without a trailing dot; an
/// address gets its shortest form without a zone. `None` when the text is malformed.
pub(crate) fn web(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = split(text)?;
    // A zone is meaningful only on the client's machine (RFC 6874 §1).
    let (bare, zone) = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.split_once('%')) {
        Some((address, zone)) => (format!("[{address}]"), zone),
        None => (host.to_owned(), ""),
    };
    if !zone.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_~%".contains(&b)) {
        return None;
    }
    let host = bare.as_str();
    // Characters that URLs allow in a host and browsers never send.
    let is_unusual = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !".-_:[]".contains(c);
    if host.contains(is_unusual) {
        return None;
    }
    let host = match Host::parse(host).ok()? {
        Host::Domain(name) => name.strip_suffix('.').unwrap_or(&name).to_owned(),
        address => address.to_string(),
    };
    (!host.is_empty()).then_some((host, port))
}

/// Whether two canonical hosts are equal, or one is a subdomain of the other.
pub(crate) fn are_near(one: &str, other: &str) -> bool {
    let is_below = |one: &str, other| one.strip_suffix(other).is_some_and(|rest| rest.ends_with('.'));
    one == other || is_below(one, other) || is_below(other, one)
}

/// Parses `host[:port]` of a custom scheme. Custom schemes define no rules for hosts. `None` when the text is malformed.
pub(crate) fn opaque(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = split(text)?;
    let is_valid = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    (is_valid && !host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

/// Splits off the port. An empty port (`host:`) is an absent one (RFC 3986 §3.2.3).
fn split(text: &str) -> Option<(&str, Option<u16>)> {
    // The colons of an IPv6 address are inside its brackets.
    let end = text.rfind(']').map_or(0, |at| at + 1);
    match text.get(end..)?.find(':').map(|at| at + end) {
        Some(at) => {
            let digits = &text[at + 1..];
            let host = &text[..at];
            if digits.is_empty() {
                return Some((host, None));
            }
            let port = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
            Some((host, Some(port)))
        }
        None => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_host_are_equal() {
        let same = [
            ("Chat.Example", "chat.example"),
            ("chat.example.", "chat.example"),
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
            ("[fe80::1%eth0]", "[fe80::1]"),
            ("[FE80::1%25en-0.1]", "[fe80::1]"),
            ("my_host", "my_host"),
        ];
        for (one, canonical) in same {
            assert_eq!(web(one), Some((canonical.to_owned(), None)), "{one}");
            assert_eq!(web(&format!("{one}:")), Some((canonical.to_owned(), None)), "{one}:");
            assert_eq!(web(&format!("{one}:8080")), Some((canonical.to_owned(), Some(8080))), "{one}");
        }
    }

    #[test]
    fn invalid_hosts_are_refused() {
        for bad in [
            "",
            ":80",
            ".",
            "a b",
            "a,b",
            "a@b",
            "a/b",
            ":",
            "a::",
            "a:x",
            "a:+80",
            "a:65536",
            "a:80:1",
            "[::1",
            "[::1%a b]",
            "[a%eth0]",
            "a%eth0",
            "::1",
            "*",
        ] {
            assert_eq!(web(bad), None, "{bad:?}");
        }
        assert_eq!(opaque("App:"), Some(("app".to_owned(), None)));
        for bad in ["", ":", "a b", "münchen", "[::1]", "a:x"] {
            assert_eq!(opaque(bad), None, "{bad:?}");
        }
    }
}

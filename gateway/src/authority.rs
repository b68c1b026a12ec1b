//! A host with an optional port, in its canonical form, so that two spellings of one host are equal. Pure; called by
//! `origin`.

use url::Host;

/// `host[:port]` of a URL of the web: lower case, punycode, addresses in their shortest form and without a zone, no trailing dot. None
/// when it is malformed.
pub(crate) fn web(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = split(text)?;
    // A zone means something to the client's machine alone (RFC 6874 §1).
    let (bare, zone) = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.split_once('%')) {
        Some((address, zone)) => (format!("[{address}]"), zone),
        None => (host.to_owned(), ""),
    };
    if !zone.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_~%".contains(&b)) {
        return None;
    }
    let host = bare.as_str();
    // What URLs allow in a host and browsers never send.
    let odd = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !".-_:[]".contains(c);
    if host.contains(odd) {
        return None;
    }
    let host = match Host::parse(host).ok()? {
        Host::Domain(name) => name.strip_suffix('.').unwrap_or(&name).to_owned(),
        address => address.to_string(),
    };
    (!host.is_empty()).then_some((host, port))
}

/// Whether two hosts in canonical form are the same, or one is a subdomain of the other.
pub(crate) fn are_near(one: &str, other: &str) -> bool {
    let is_below = |one: &str, other| one.strip_suffix(other).is_some_and(|rest| rest.ends_with('.'));
    one == other || is_below(one, other) || is_below(other, one)
}

/// `host[:port]` of a scheme of an app, whose hosts are names without rules.
pub(crate) fn opaque(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = split(text)?;
    let sane = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    (sane && !host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

fn split(text: &str) -> Option<(&str, Option<u16>)> {
    // The colons of an IPv6 address are inside its brackets.
    let end = text.rfind(']').map_or(0, |at| at + 1);
    match text.get(end..)?.find(':').map(|at| at + end) {
        Some(at) => {
            let digits = &text[at + 1..];
            let port = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
            Some((&text[..at], Some(port)))
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
            assert_eq!(web(&format!("{one}:8080")), Some((canonical.to_owned(), Some(8080))), "{one}");
        }
    }

    #[test]
    fn what_is_no_host_is_none() {
        for bad in [
            "",
            ":80",
            ".",
            "a b",
            "a,b",
            "a@b",
            "a/b",
            "a:",
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
        for bad in ["", "a b", "münchen", "[::1]", "a:x"] {
            assert_eq!(opaque(bad), None, "{bad:?}");
        }
    }
}

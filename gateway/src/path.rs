//! Is a request target canonical? Only then is it clear which route it means, here and at any other tier. Pure; called by
//! the door before anything else looks at a request.

use std::borrow::Cow;

use actix_web::http::Uri;

use crate::{error::Error, origin::Origin};

/// The segments of a canonical target's path, percent-decoded. `/` has none. `own` is the origin that the Host header names.
pub(crate) fn segments<'a>(uri: &'a Uri, own: Option<&Origin>) -> Result<Vec<Cow<'a, str>>, Error> {
    check_authority(uri, own)?;
    let Some(rest) = uri.path().strip_prefix('/') else {
        return Err(Error::Path("the request target must be a path"));
    };
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let trimmed = rest.strip_suffix('/').unwrap_or(rest);
    let mut segments = trimmed.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
    if trimmed.len() < rest.len() {
        segments.push(Cow::Borrowed(""));
    }
    Ok(segments)
}

/// An absolute target must name the host that the Host header names.
fn check_authority(uri: &Uri, own: Option<&Origin>) -> Result<(), Error> {
    let Some(authority) = uri.authority() else { return Ok(()) };
    let http = matches!(uri.scheme_str(), Some("http" | "https"));
    let named = Origin::new(uri.scheme_str() == Some("https"), authority.as_str());
    let same = http && named.as_ref().zip(own).is_some_and(|(named, own)| named.same_host(own));
    if same { Ok(()) } else { Err(Error::Path("the request target names another host")) }
}

/// One decoded segment; refuses what another tier could read as a different path.
fn segment(raw: &str) -> Result<Cow<'_, str>, Error> {
    let refused = Err(Error::Path("the path is not in canonical form"));
    let Some(text) = decoded(raw) else { return refused };
    let odd = |c: char| matches!(c, '/' | '\\' | ';' | '%') || c.is_control();
    if text.is_empty() || text == "." || text == ".." || text.contains(odd) { refused } else { Ok(text) }
}

/// `raw` percent-decoded; none when it is not well-formed or not UTF-8.
fn decoded(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(raw.len()), raw.as_bytes());
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = tail else { return None };
            bytes.push(hex(*high)? << 4 | hex(*low)?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(target: &str) -> Result<Vec<String>, Error> {
        let uri: Uri = target.parse().unwrap();
        let own = Origin::new(false, "chat.example:8080");
        segments(&uri, own.as_ref()).map(|all| all.into_iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn a_canonical_path_is_its_decoded_segments() {
        assert_eq!(read("/"), Ok(vec![]));
        assert_eq!(read("/user/me?a=//b"), Ok(vec!["user".into(), "me".into()]));
        assert_eq!(read("/rooms/team%3Ared"), Ok(vec!["rooms".into(), "team:red".into()]));
        assert_eq!(read("/socket.io/"), Ok(vec!["socket.io".into(), String::new()]));
    }

    #[test]
    fn what_another_tier_could_read_differently_is_refused() {
        let tricks = [
            "//",
            "//user/me",
            "/user//me",
            "/user/me//",
            "/../user/me",
            "/user/..",
            "/user/./me",
            "/%2e%2e/user/me",
            "/%2E./user",
            "/user%2fme",
            "/user%2Fme",
            "/user%5cme",
            "/user/me%00",
            "/user/..;/me",
            "/user;a=b/me",
            "/user/%zz",
            "/user/%2",
            "/user/%",
            "/user/%252fme",
            "/user/%ff",
            "/user/me%0d%0aX:1",
            "/user/%7f",
            "*",
        ];
        for trick in tricks {
            assert!(matches!(read(trick), Err(Error::Path(_))), "{trick}");
        }
    }

    #[test]
    fn an_absolute_target_must_name_our_host() {
        assert!(read("http://chat.example:8080/user/me").is_ok());
        assert!(read("http://CHAT.example:8080/user/me").is_ok());
        for other in [
            "http://evil.example:8080/user/me",
            "http://chat.example/user/me",
            "ftp://chat.example:8080/",
            "chat.example:8080",
        ] {
            assert!(matches!(read(other), Err(Error::Path(_))), "{other}");
        }
    }

    #[test]
    fn without_a_host_no_absolute_target_is_ours() {
        let uri: Uri = "http://chat.example:8080/".parse().unwrap();
        assert!(segments(&uri, None).is_err());
    }
}

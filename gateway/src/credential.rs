//! Which session token a request presents, in its cookie or as a bearer token. Pure; called by the door.

use actix_web::http::header::{self, HeaderMap};
use proto::identity::COOKIE;

use crate::error::Error;

/// The one token that the request presents. Two cookies of the name, or a cookie and a bearer token that differ, are
/// refused: one of them was planted, and nobody can tell which.
pub(crate) fn presented(headers: &HeaderMap) -> Result<Option<String>, Error> {
    match (one(cookies(headers))?, one(bearers(headers))?) {
        (Some(cookie), Some(bearer)) if cookie != bearer => Err(Error::Unauthorized),
        (cookie, bearer) => Ok(bearer.or(cookie).map(str::to_owned)),
    }
}

fn one<'a>(mut found: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, Error> {
    let first = found.next();
    if found.next().is_some() { Err(Error::Unauthorized) } else { Ok(first) }
}

/// The values of every cookie that is called as ours. A header that is not text counts as a bad one of ours: it could hide one.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .flat_map(|value| value.to_str().unwrap_or("auth_token=?").split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| name.trim() == COOKIE)
        .map(|(_, value)| value.trim())
}

/// The tokens of every Authorization header of the scheme Bearer; other schemes are not ours.
fn bearers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::AUTHORIZATION)
        .filter_map(|value| value.to_str().unwrap_or("Bearer ?").split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Result<Option<String>, Error> {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        presented(&map)
    }

    #[test]
    fn a_token_comes_in_the_cookie_or_as_bearer() {
        let token = || Ok(Some("abc".to_owned()));
        assert_eq!(of(&[("cookie", "auth_token=abc")]), token());
        assert_eq!(of(&[("cookie", "a=b; auth_token=abc; c=d")]), token());
        assert_eq!(of(&[("cookie", "a=b"), ("cookie", "auth_token=abc")]), token());
        assert_eq!(of(&[("authorization", "Bearer abc")]), token());
        assert_eq!(of(&[("authorization", "bearer abc")]), token());
        assert_eq!(of(&[("cookie", "auth_token=abc"), ("authorization", "Bearer abc")]), token());
    }

    #[test]
    fn what_is_not_ours_is_no_credential() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("cookie", "xauth_token=abc; AUTH_TOKEN=abc; auth_token")]), Ok(None));
        assert_eq!(of(&[("authorization", "Basic abc")]), Ok(None));
        assert_eq!(of(&[("authorization", "Bearer")]), Ok(None));
    }

    #[test]
    fn two_of_them_are_refused() {
        let twice: [&[(&str, &str)]; 6] = [
            &[("cookie", "auth_token=abc; auth_token=abc")],
            &[("cookie", "auth_token=abc; auth_token=def")],
            &[("cookie", "auth_token=abc"), ("cookie", "auth_token=def")],
            &[("cookie", "auth_token=abc"), ("cookie", "a=é")],
            &[("authorization", "Bearer abc"), ("authorization", "Bearer def")],
            &[("cookie", "auth_token=abc"), ("authorization", "Bearer def")],
        ];
        for request in twice {
            assert_eq!(of(request), Err(Error::Unauthorized), "{request:?}");
        }
    }
}

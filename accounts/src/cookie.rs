//! The session's token on the wire: found in a request, set and cleared in an answer. Pure; called by `http`.

use actix_web::{
    cookie::{Cookie, SameSite, time::Duration},
    http::header::{self, HeaderMap, HeaderName},
};
use proto::identity::COOKIE;
use sessions::{LIFETIME_SECONDS, Token};

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The token of the session cookie; none if there is no such cookie, or several (one of them may be planted), or its value
/// cannot be a token.
pub fn presented(headers: &HeaderMap) -> Option<Token> {
    let pairs = texts(headers, header::COOKIE)?;
    let named = pairs.iter().flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    single(named.filter(|(name, _)| name.trim() == COOKIE).map(|(_, value)| value))
}

/// The bearer token of the Authorization header; none under the same conditions.
pub fn bearer(headers: &HeaderMap) -> Option<Token> {
    let texts = texts(headers, header::AUTHORIZATION)?;
    let schemes = texts.iter().filter_map(|text| text.split_once(' '));
    single(schemes.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token))
}

/// Whether the client came by TLS, as the gateway says: it removes the header of everybody whom it does not trust.
pub fn came_by_tls(headers: &HeaderMap) -> bool {
    let said = headers.get_all(FORWARDED_PROTO).last().and_then(|said| said.to_str().ok());
    said.and_then(|said| said.rsplit(',').next())
        .is_some_and(|last| last.trim().eq_ignore_ascii_case("https"))
}

/// The cookie that carries `token` for as long as its session can live.
pub fn carrying(token: &Token, secure: bool) -> Cookie<'static> {
    let lifetime = i64::try_from(LIFETIME_SECONDS).unwrap_or(i64::MAX);
    shaped(token.reveal().to_owned(), lifetime, secure)
}

/// The cookie that removes the other one.
pub fn cleared(secure: bool) -> Cookie<'static> {
    shaped(String::new(), 0, secure)
}

fn shaped(value: String, seconds: i64, secure: bool) -> Cookie<'static> {
    Cookie::build(COOKIE, value)
        .path("/")
        .max_age(Duration::seconds(seconds))
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(secure)
        .finish()
}

/// All values of a header; none if one is not text, because it could hide what is looked for.
fn texts(headers: &HeaderMap, name: HeaderName) -> Option<Vec<&str>> {
    headers.get_all(name).map(|value| value.to_str().ok()).collect()
}

fn single<'a>(mut found: impl Iterator<Item = &'a str>) -> Option<Token> {
    let first = found.next()?;
    if found.next().is_some() { None } else { first.trim().parse().ok() }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn in_cookie(values: &[&[u8]]) -> Option<String> {
        presented(&headers(header::COOKIE, values)).map(|token| token.reveal().to_owned())
    }

    #[test]
    fn one_cookie_is_a_token_and_two_are_none() {
        assert_eq!(in_cookie(&[b"a=b; auth_token=abc; c=d"]).as_deref(), Some("abc"));
        assert_eq!(in_cookie(&[b"a=b", b"auth_token=abc"]).as_deref(), Some("abc"));
        let none: [&[&[u8]]; 9] = [
            &[],
            &[b""],
            &[b"auth_token="],
            &[b"auth_token=a b"],
            &[b"AUTH_TOKEN=abc; xauth_token=abc"],
            &[b"auth_token=abc; auth_token=abc"],
            &[b"auth_token=abc; auth_token=def"],
            &[b"auth_token=abc", b"auth_token=def"],
            &[b"auth_token=abc", b"x=\xff"],
        ];
        for none in none {
            assert_eq!(in_cookie(none), None, "{none:?}");
        }
    }

    #[test]
    fn one_bearer_is_a_token_and_two_are_none() {
        let read = |values: &[&[u8]]| bearer(&headers(header::AUTHORIZATION, values));
        for good in [&b"Bearer abc"[..], b"bearer abc", b"BEARER  abc "] {
            assert_eq!(read(&[good]).unwrap().reveal(), "abc");
        }
        for bad in [&b"Basic abc"[..], b"Bearer", b"Bearer ", b"abc", b"Bearer a b"] {
            assert_eq!(read(&[bad]), None);
        }
        assert_eq!(read(&[b"Bearer abc", b"Bearer def"]), None);
    }

    #[test]
    fn the_cookie_has_the_attributes_of_the_contract() {
        let token: Token = "abc".parse().unwrap();
        let plain = carrying(&token, false).to_string();
        assert_eq!(plain, "auth_token=abc; HttpOnly; SameSite=Lax; Path=/; Max-Age=86400");
        let secure = carrying(&token, true).to_string();
        assert_eq!(secure, "auth_token=abc; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400");
        assert_eq!(cleared(false).to_string(), "auth_token=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    }
}

//! The session's token on the wire: found in a request, set and cleared in an answer. Pure; called by `http`.

use actix_web::{
    cookie::{Cookie, SameSite, time::Duration},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
};
use proto::identity::COOKIE;
use sessions::{LIFETIME_SECONDS, Shown, Token};

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The session tokens that a request carries.
pub fn shown(headers: &HeaderMap) -> Shown {
    let values = |name| headers.get_all(name).map(HeaderValue::as_bytes);
    Shown::read(values(header::COOKIE), values(header::AUTHORIZATION))
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

#[cfg(test)]
mod tests {
    use super::*;

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

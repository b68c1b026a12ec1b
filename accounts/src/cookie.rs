//! Session tokens in requests, and the session cookie in responses.

use actix_web::{
    cookie::{Cookie, SameSite, time::Duration},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
};
use proto::identity::COOKIE;
use sessions::{LIFETIME_SECONDS, PresentedTokens, Token};

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// All session tokens of a request.
pub fn presented_tokens(headers: &HeaderMap) -> PresentedTokens {
    let values = |name| headers.get_all(name).map(HeaderValue::as_bytes);
    PresentedTokens::read(values(header::COOKIE), values(header::AUTHORIZATION))
}

/// Whether the client connected by TLS. The gateway removes the header from requests of untrusted peers.
pub fn is_tls(headers: &HeaderMap) -> bool {
    let value = headers.get_all(FORWARDED_PROTO).last().and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.rsplit(',').next())
        .is_some_and(|last| last.trim().eq_ignore_ascii_case("https"))
}

/// The session cookie with `token`. Its lifetime is the maximum lifetime of a session.
pub fn session_cookie(token: &Token, secure: bool) -> Cookie<'static> {
    let lifetime = i64::try_from(LIFETIME_SECONDS).unwrap_or(i64::MAX);
    shaped(token.reveal().to_owned(), lifetime, secure)
}

/// A cookie that removes the session cookie.
pub fn removal_cookie(secure: bool) -> Cookie<'static> {
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

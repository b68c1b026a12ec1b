//! Which headers pass. Toward a service only those on a list, and what the gateway itself knows; toward a client all but
//! those that concern one connection, or that say what software is behind. Pure.

use std::collections::HashSet;

use actix_web::http::header::{self as own, HeaderMap as OwnHeaders};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use proto::signature;

use crate::client::Client;

/// What a client says that a service may want to know.
static PASSED: [HeaderName; 9] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::ORIGIN,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-request-id"),
];

/// Those of them that a client cannot take back by naming them in `Connection`: a request without them is another request.
static LASTING: [HeaderName; 4] =
    [header::AUTHORIZATION, header::CONTENT_TYPE, header::COOKIE, header::ORIGIN];

/// What besides has to do with a WebSocket handshake. Extensions are not offered on: nobody here has any.
static HANDSHAKE: [HeaderName; 3] =
    [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION, header::SEC_WEBSOCKET_PROTOCOL];

/// What a service says to the gateway alone, or nobody has to know. Length and date are the gateway's own, and so is who may
/// read an answer, with all `access-control-*`.
static KEPT_BACK: [HeaderName; 15] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::DATE,
    header::SERVER,
    header::VIA,
    HeaderName::from_static("x-powered-by"),
    header::VARY,
];

const IDENTITY: HeaderName = HeaderName::from_static(signature::HEADER);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What goes on of a request's headers.
pub(super) fn passed(sent: &OwnHeaders) -> HeaderMap {
    let named = named(sent.get_all(own::CONNECTION).map(own::HeaderValue::as_bytes));
    let mut headers = HeaderMap::new();
    for name in PASSED.iter().filter(|name| LASTING.contains(name) || !named.contains(name.as_str())) {
        copy(sent, name, &mut headers);
    }
    headers
}

/// What goes on of a WebSocket handshake besides, and what makes it one.
pub(super) fn handshake(sent: &OwnHeaders, headers: &mut HeaderMap) {
    HANDSHAKE.iter().for_each(|name| copy(sent, name, headers));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// What the gateway knows: where the client is, how it came, who it is (signed).
pub(super) fn tell(headers: &mut HeaderMap, client: Client, host: Option<&str>, identity: String) {
    let mut tell = |name, text: String| {
        // Addresses, names and signatures are all ASCII; a host that is not is not worth telling.
        HeaderValue::try_from(text).map(|value| headers.insert(name, value)).ok();
    };
    client.address.into_iter().for_each(|address| tell(FORWARDED_FOR, address.to_string()));
    tell(FORWARDED_PROTO, if client.is_secure { "https" } else { "http" }.to_owned());
    host.into_iter().for_each(|host| tell(FORWARDED_HOST, host.to_owned()));
    tell(IDENTITY, identity);
}

/// What goes back of an answer's headers.
pub(super) fn returned(answered: &HeaderMap) -> Vec<(own::HeaderName, own::HeaderValue)> {
    let named = named(answered.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes));
    let passes = |name: &HeaderName| {
        let text = name.as_str();
        !KEPT_BACK.contains(name) && !named.contains(text) && !text.starts_with("access-control-")
    };
    let headers = answered.iter().filter(|(name, _)| passes(name)).filter_map(|(name, value)| {
        let name = own::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        Some((name, own::HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    headers.collect()
}

/// The names in `Connection`, in lower case.
fn named<'a>(values: impl Iterator<Item = &'a [u8]>) -> HashSet<String> {
    let names = values.flat_map(|value| value.split(|byte| *byte == b','));
    names.map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase()).collect()
}

fn copy(sent: &OwnHeaders, name: &HeaderName, headers: &mut HeaderMap) {
    for value in sent.get_all(name.as_str()) {
        HeaderValue::from_bytes(value.as_bytes()).map(|value| headers.append(name, value)).ok();
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName as OwnName, HeaderValue as OwnValue};

    use super::*;

    fn sent(pairs: &[(&'static str, &'static str)]) -> OwnHeaders {
        let mut headers = OwnHeaders::new();
        for (name, value) in pairs {
            headers.append(OwnName::from_static(name), OwnValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn only_what_is_on_the_list_goes_on() {
        let headers = passed(&sent(&[
            ("cookie", "auth_token=x"),
            ("user-agent", "me"),
            ("x-authenticated-identity", "1:eve"),
            ("x_authenticated_user", "eve"),
            ("x-forwarded-for", "9.9.9.9"),
            ("forwarded", "for=9.9.9.9"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("trailer", "cookie"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip"),
            ("sec-websocket-key", "k"),
            ("host", "a"),
            ("x-anything", "y"),
        ]));
        assert_eq!(names(&headers), ["cookie", "user-agent"]);
    }

    #[test]
    fn connection_names_what_ends_here_but_not_what_makes_the_request() {
        let headers = passed(&sent(&[
            ("connection", "close, User-Agent ,cookie"),
            ("connection", "authorization,,origin"),
            ("cookie", "auth_token=x"),
            ("authorization", "Bearer x"),
            ("origin", "http://a"),
            ("user-agent", "me"),
        ]));
        assert_eq!(names(&headers), ["authorization", "cookie", "origin"]);
    }

    #[test]
    fn what_concerns_one_connection_or_the_software_does_not_come_back() {
        let mut answered = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Inner"),
            ("keep-alive", "timeout=5"),
            ("x-inner", "1"),
            ("server", "s"),
            ("x-powered-by", "p"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("date", "d"),
            ("access-control-allow-origin", "*"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("content-type", "text/plain"),
        ] {
            answered.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let back = returned(&answered);
        let mut back: Vec<_> =
            back.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        back.sort_unstable();
        assert_eq!(back, [("content-type", "text/plain"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
    }
}

//! Filters headers. A service receives the listed request headers and the headers of the gateway itself. A client receives
//! all response headers except those of one connection and those that reveal the software. Pure.

use std::collections::HashSet;

use actix_web::http::header::{self as own, HeaderMap as OwnHeaders};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use proto::signature;

use crate::client::Client;

/// The request headers that services receive.
static FORWARDED: [HeaderName; 9] = [
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

/// Forwarded headers that `Connection` cannot remove, because a request without them has a different meaning.
static ESSENTIAL: [HeaderName; 4] =
    [header::AUTHORIZATION, header::CONTENT_TYPE, header::COOKIE, header::ORIGIN];

/// The headers of a WebSocket handshake. Extensions are not forwarded, because no service supports any.
static HANDSHAKE: [HeaderName; 3] =
    [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION, header::SEC_WEBSOCKET_PROTOCOL];

/// Response headers that clients do not receive. The gateway sets length and date itself. All `access-control-*` headers
/// are removed as well, because the gateway decides which pages may read a response.
static REMOVED: [HeaderName; 15] = [
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

/// The request headers that are forwarded to a service.
pub(super) fn request_headers(sent: &OwnHeaders) -> HeaderMap {
    let named = named(sent.get_all(own::CONNECTION).map(own::HeaderValue::as_bytes));
    let mut headers = HeaderMap::new();
    for name in FORWARDED.iter().filter(|name| ESSENTIAL.contains(name) || !named.contains(name.as_str())) {
        copy(sent, name, &mut headers);
    }
    headers
}

/// Adds the headers of a WebSocket handshake.
pub(super) fn add_handshake(sent: &OwnHeaders, headers: &mut HeaderMap) {
    HANDSHAKE.iter().for_each(|name| copy(sent, name, headers));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Adds the headers of the gateway: client address, scheme, host and signed identity.
pub(super) fn add_client(headers: &mut HeaderMap, client: Client, host: Option<&str>, identity: String) {
    let mut insert = |name, text: String| {
        // Addresses, names and signatures are ASCII. A host that is not is omitted.
        HeaderValue::try_from(text).map(|value| headers.insert(name, value)).ok();
    };
    client.address.into_iter().for_each(|address| insert(FORWARDED_FOR, address.to_string()));
    insert(FORWARDED_PROTO, if client.is_secure { "https" } else { "http" }.to_owned());
    host.into_iter().for_each(|host| insert(FORWARDED_HOST, host.to_owned()));
    insert(IDENTITY, identity);
}

/// The response headers that are returned to the client.
pub(super) fn response_headers(received: &HeaderMap) -> Vec<(own::HeaderName, own::HeaderValue)> {
    let named = named(received.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes));
    let passes = |name: &HeaderName| {
        let text = name.as_str();
        !REMOVED.contains(name) && !named.contains(text) && !text.starts_with("access-control-")
    };
    let headers = received.iter().filter(|(name, _)| passes(name)).filter_map(|(name, value)| {
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

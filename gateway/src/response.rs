//! Headers and shape of every response: refusals have one JSON shape, whether they come from the gateway, a service or a
//! library, and all responses have security headers. Called by the middleware.

use actix_web::{
    Error as ActixError, HttpRequest, HttpResponse, ResponseError,
    body::{BoxBody, EitherBody, MessageBody},
    dev::ServiceResponse,
    error::InternalError,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};
use proto::Refusal;
use serde_json::json;

use crate::{error::Error, metric};

/// The Content-Security-Policy of everything except pages: no content may run, and no page may frame it.
const DENY_ALL: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The maximum length of the text of a refusal of a service, in bytes.
const MAX_TEXT: usize = 200;

/// Headers that are set unless the handler has set them.
const DEFAULTS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::CONTENT_SECURITY_POLICY, DENY_ALL),
];

/// A refusal of the gateway.
pub(crate) fn refusal(error: Error) -> HttpResponse {
    metric::record_refusal(error);
    let mut response = error.error_response();
    add_security_headers(response.headers_mut());
    response
}

/// The Engine.IO response for an unknown session: JSON, or the bare message for a WebSocket.
pub(crate) fn session_unknown(request: &HttpRequest) -> HttpResponse {
    let message = "Session ID unknown";
    // The middleware refuses or removes all upgrades other than to WebSocket.
    if request.headers().contains_key(header::UPGRADE) {
        return HttpResponse::BadRequest().content_type("text/html").body(message);
    }
    HttpResponse::BadRequest().json(json!({"code": 1, "message": message}))
}

/// Completes the response of a service: the shape of refusals and the security headers. Of refusals to a WebSocket handshake
/// the text is kept: it is Engine.IO's message.
pub(crate) fn finish<B: MessageBody>(
    response: ServiceResponse<B>,
    is_handshake: bool,
) -> ServiceResponse<EitherBody<B>> {
    let mut response = if is_plain_refusal(response.response()) {
        response.map_body(|head, body| {
            let text = if is_handshake { short_text(body) } else { None };
            EitherBody::right(refusal_body(head.status, &mut head.headers, text.as_deref()))
        })
    } else {
        response.map_into_left_body()
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        add_security_headers(response.headers_mut());
    }
    response
}

/// Completes the error of a service in the same way.
pub(crate) fn failure(error: ActixError) -> ActixError {
    let mut response = error.error_response();
    if is_plain_refusal(&response) {
        response = response.map_body(|head, _| refusal_body(head.status, &mut head.headers, None));
    }
    add_security_headers(response.headers_mut());
    InternalError::from_response(error, response).into()
}

/// Whether this is a refusal in another shape than JSON: one of actix, with text or without a body.
fn is_plain_refusal<B>(response: &HttpResponse<B>) -> bool {
    let json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    let is_refusal = response.status().is_client_error() || response.status().is_server_error();
    is_refusal && !response.headers().get(header::CONTENT_TYPE).is_some_and(json)
}

/// The text of a body that is in memory, if it is short.
fn short_text(body: impl MessageBody) -> Option<String> {
    let bytes = body.try_into_bytes().ok().filter(|bytes| bytes.len() <= MAX_TEXT)?;
    String::from_utf8(bytes.into()).ok().filter(|text| !text.is_empty())
}

/// The JSON body of a refusal with this status and text. Other headers, such as `Allow`, are kept.
fn refusal_body(status: StatusCode, headers: &mut HeaderMap, text: Option<&str>) -> BoxBody {
    let text = text.or(status.canonical_reason()).unwrap_or("Refused");
    let refusal = Refusal::new(status.as_u16(), text);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.remove(header::CONTENT_LENGTH);
    BoxBody::new(serde_json::to_string(&refusal).expect("a number and two strings serialize"))
}

fn add_security_headers(headers: &mut HeaderMap) {
    for (name, value) in DEFAULTS {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
}

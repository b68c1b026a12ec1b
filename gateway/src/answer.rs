//! What every answer has in common on its way out: one JSON shape for refusals, whoever made them, and the headers that
//! keep browsers from guessing. Called by the door.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    Error as ActixError, HttpRequest, HttpResponse, ResponseError,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::ServiceResponse,
    error::InternalError,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    web::Bytes,
};
use proto::Refusal;
use serde_json::json;

use crate::{error::Error, hangup::Open, metric};

/// Content policy of everything that is not a page: nothing in it may run, and no page may frame it.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Set unless the handler knew better.
const DEFAULTS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::CONTENT_SECURITY_POLICY, NOTHING),
];

/// The gateway's own refusal.
pub(crate) fn refused(error: Error) -> HttpResponse {
    metric::refused(error);
    let mut answer = error.error_response();
    protect(answer.headers_mut());
    answer
}

/// What Engine.IO answers for a session that is not there: JSON, or to a WebSocket the bare message.
pub(crate) fn session_unknown(request: &HttpRequest) -> HttpResponse {
    let message = "Session ID unknown";
    // The door has let no other upgrade in than a WebSocket's.
    if request.headers().contains_key(header::UPGRADE) {
        return HttpResponse::BadRequest().content_type("text/html").body(message);
    }
    HttpResponse::BadRequest().json(json!({"code": 1, "message": message}))
}

/// The answer of a service, as it may leave.
pub(crate) fn passed<B: MessageBody>(answer: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    let mut answer = if is_foreign_refusal(answer.response()) {
        answer.map_body(|head, _| EitherBody::right(reshaped(head.status, &mut head.headers)))
    } else {
        answer.map_into_left_body()
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        protect(answer.headers_mut());
    }
    answer
}

/// The failure of a service to answer at all, as an error that carries our shape.
pub(crate) fn failed(error: ActixError) -> ActixError {
    let mut answer = error.error_response();
    if is_foreign_refusal(&answer) {
        answer = answer.map_body(|head, _| reshaped(head.status, &mut head.headers));
    }
    protect(answer.headers_mut());
    InternalError::from_response(error, answer).into()
}

/// An answer whose request counts as under way until its body is dropped.
pub(crate) fn under_way<B: MessageBody + 'static>(
    answer: ServiceResponse<EitherBody<B>>,
    open: Option<Open>,
) -> ServiceResponse<EitherBody<B>> {
    match open {
        None => answer,
        Some(open) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            open.keep();
            answer
        }
        Some(open) => answer.map_body(|_, body| {
            EitherBody::right(BoxBody::new(UnderWay { body: Box::pin(body), _open: open }))
        }),
    }
}

/// See [`under_way`].
struct UnderWay<B> {
    body: Pin<Box<B>>,
    _open: Open,
}

impl<B: MessageBody> MessageBody for UnderWay<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        self.body.as_mut().poll_next(cx)
    }
}

/// Whether this is a refusal in any other shape than JSON: actix's own, with a text or nothing in it.
fn is_foreign_refusal<B>(answer: &HttpResponse<B>) -> bool {
    let json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    let refusal = answer.status().is_client_error() || answer.status().is_server_error();
    refusal && !answer.headers().get(header::CONTENT_TYPE).is_some_and(json)
}

/// The body that a refusal of this status should have had; other headers, such as `Allow`, stay.
fn reshaped(status: StatusCode, headers: &mut HeaderMap) -> BoxBody {
    let text = status.canonical_reason().unwrap_or("Refused");
    let refusal = Refusal::new(status.as_u16(), text);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.remove(header::CONTENT_LENGTH);
    BoxBody::new(serde_json::to_string(&refusal).expect("a number and two texts are always JSON"))
}

fn protect(headers: &mut HeaderMap) {
    for (name, value) in DEFAULTS {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
}

//! Request bodies: which requests may have one, their maximum size and their timeout. The middleware checks the head here
//! and wraps the stream, so that every handler reads a bounded body.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpMessage,
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    http::{
        Method,
        header::{self, HeaderMap},
    },
    web::{Bytes, BytesMut},
};
use futures_util::Stream;
use runtime::body::ReadError;
use serde_json::Value;
use tokio::time::Sleep;

use crate::error::Error;

/// The error that occurred while a handler read the body. The stream sets it, the middleware responds with it.
pub(crate) type BodyFailure = Rc<Cell<Option<Error>>>;

/// A request body without a byte order mark. The stream fails when the body exceeds its limit or its deadline.
struct Bounded {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>>,
    /// The first bytes, while they may be the start of a byte order mark.
    start: Option<BytesMut>,
    left: usize,
    deadline: Pin<Box<Sleep>>,
    failure: BodyFailure,
}

/// Whether a request may have the body that its head declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// The head declares no body, or the request may have it.
    Allowed,
    /// The head does not determine it. [`require_empty`] reads the body.
    Undetermined,
}

/// The byte order mark that some clients on Windows write before JSON (RFC 8259 §8.1 allows a parser to ignore it).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The maximum size of a body that counts as empty, in bytes: `{}` and white space.
const MAX_EMPTY_BODY: usize = 64;

/// Checks the body that the head declares. A request that changes state must have JSON, because forms of other sites cannot
/// send JSON. Many clients declare a body of unknown length and send no bytes, or send an empty object with DELETE; such
/// bodies are undetermined.
pub(crate) fn check(method: &Method, headers: &HeaderMap, limit: usize) -> Result<Body, Error> {
    let Some(length) = declared_length(headers) else { return Ok(Body::Allowed) };
    let is_unknown = headers.contains_key(header::TRANSFER_ENCODING);
    match *method {
        Method::DELETE if length > MAX_EMPTY_BODY => Err(Error::UnexpectedBody),
        Method::DELETE => Ok(Body::Undetermined),
        Method::POST | Method::PUT | Method::PATCH if length > limit => Err(Error::TooLarge),
        Method::POST | Method::PUT | Method::PATCH if is_encoded(headers) => Err(Error::ContentEncoding),
        Method::POST | Method::PUT | Method::PATCH if is_json(headers) => Ok(Body::Allowed),
        Method::POST | Method::PUT | Method::PATCH if is_unknown => Ok(Body::Undetermined),
        Method::POST | Method::PUT | Method::PATCH => Err(Error::MediaType),
        Method::GET | Method::HEAD if is_unknown => Ok(Body::Undetermined),
        _ => Err(Error::UnexpectedBody),
    }
}

/// Reads a body that [`check`] left undetermined, and refuses the request unless the body is empty. With DELETE `{}` and
/// `null` count as empty. Afterwards the request has no body.
pub(crate) async fn require_empty(request: &mut ServiceRequest, within: Duration) -> Result<(), Error> {
    let (most, refusal) = match *request.method() {
        Method::DELETE => (MAX_EMPTY_BODY, Error::UnexpectedBody),
        Method::GET | Method::HEAD => (0, Error::UnexpectedBody),
        _ => (0, Error::MediaType),
    };
    let body = match read(request.take_payload(), most, within).await {
        Err(Error::TooLarge) => return Err(refusal),
        read => read?,
    };
    let is_empty = body.trim_ascii().is_empty()
        || match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => fields.is_empty(),
            Ok(Value::Null) => true,
            _ => false,
        };
    request.headers_mut().remove(header::TRANSFER_ENCODING);
    request.headers_mut().remove(header::CONTENT_LENGTH);
    if is_empty { Ok(()) } else { Err(refusal) }
}

/// Bounds the body of the request, if the head declares one.
pub(crate) fn bound(request: &mut ServiceRequest, limit: usize, within: Duration) -> BodyFailure {
    let failure = BodyFailure::default();
    if declared_length(request.headers()).is_some() {
        let stream = Bounded {
            inner: Box::pin(request.take_payload()),
            start: Some(BytesMut::new()),
            left: limit,
            deadline: Box::pin(tokio::time::sleep(within)),
            failure: Rc::clone(&failure),
        };
        request.set_payload(Payload::from(Box::pin(stream) as Pin<Box<dyn Stream<Item = _>>>));
    }
    failure
}

/// The declared length of the body, in bytes. 0 when the length is unknown (`Transfer-Encoding`), `None` when there is no
/// body.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<usize> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Some(0);
    }
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok();
    let length = length.and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    (length > 0).then_some(length)
}

/// Reads the whole body. Fails when it exceeds `limit` bytes or takes longer than `within`.
pub(crate) async fn read<S>(payload: S, limit: usize, within: Duration) -> Result<Bytes, Error>
where
    S: Stream<Item = Result<Bytes, PayloadError>>,
{
    runtime::body::read(payload, limit, within).await.map_err(|error| match error {
        ReadError::TooLarge => Error::TooLarge,
        ReadError::Timeout => Error::BodyTimeout,
        ReadError::Broken(_) => Error::BrokenBody,
    })
}

/// Whether the body is compressed. No service decompresses request bodies.
fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = headers
        .get_all(header::CONTENT_ENCODING)
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    codings.any(|coding| !matches!(coding.trim_ascii(), b"" | b"identity"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE);
    let (Some(first), None) = (types.next(), types.next()) else { return false };
    let essence = first.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

impl Bounded {
    fn fail(&self, error: Error, as_read: PayloadError) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.failure.set(Some(error));
        Poll::Ready(Some(Err(as_read)))
    }
}

impl Bounded {
    /// The chunk without a byte order mark. `None` when more bytes are needed to detect one.
    fn without_mark(&mut self, chunk: Bytes) -> Option<Bytes> {
        let Some(mut start) = self.start.take() else { return Some(chunk) };
        start.extend_from_slice(&chunk);
        if start.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&start) {
            self.start = Some(start);
            return None;
        }
        let start = start.freeze();
        Some(if start.starts_with(BYTE_ORDER_MARK) { start.slice(BYTE_ORDER_MARK.len()..) } else { start })
    }
}

impl Stream for Bounded {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.inner.as_mut().poll_next(cx);
        match polled {
            Poll::Ready(Some(Ok(chunk))) => match self.left.checked_sub(chunk.len()) {
                Some(left) => {
                    self.left = left;
                    match self.without_mark(chunk) {
                        Some(chunk) => Poll::Ready(Some(Ok(chunk))),
                        None => {
                            cx.waker().wake_by_ref();
                            Poll::Pending
                        }
                    }
                }
                None => self.fail(Error::TooLarge, PayloadError::Overflow),
            },
            Poll::Ready(None) => Poll::Ready(
                self.start.take().filter(|start| !start.is_empty()).map(|start| Ok(start.freeze())),
            ),
            Poll::Pending if self.deadline.as_mut().poll(cx).is_ready() => {
                self.fail(Error::BodyTimeout, PayloadError::Incomplete(None))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn check_headers(method: Method, pairs: &[(&'static str, &'static str)]) -> Result<Body, Error> {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        check(&method, &map, 100)
    }

    #[test]
    fn only_post_put_and_patch_have_bodies() {
        let json = [("content-length", "2"), ("content-type", "application/json")];
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            assert_eq!(check_headers(method.clone(), &json), Ok(Body::Allowed));
            assert_eq!(check_headers(method.clone(), &[]), Ok(Body::Allowed));
            let empty = [("content-length", "0"), ("content-type", "text/plain")];
            assert_eq!(check_headers(method, &empty), Ok(Body::Allowed));
        }
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(check_headers(method.clone(), &json), Err(Error::UnexpectedBody));
            assert_eq!(
                check_headers(method.clone(), &[("transfer-encoding", "chunked")]),
                Ok(Body::Undetermined)
            );
            assert_eq!(check_headers(method, &[("content-length", "0")]), Ok(Body::Allowed));
        }
    }

    #[test]
    fn a_body_that_may_be_empty_is_undetermined() {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(check_headers(method, &[("transfer-encoding", "chunked")]), Ok(Body::Undetermined));
        }
        assert_eq!(check_headers(Method::DELETE, &[("content-length", "0")]), Ok(Body::Allowed));
        assert_eq!(check_headers(Method::DELETE, &[("content-length", "64")]), Ok(Body::Undetermined));
        assert_eq!(check_headers(Method::DELETE, &[("content-length", "65")]), Err(Error::UnexpectedBody));
    }

    #[test]
    fn a_body_must_be_json_and_no_type_of_a_form() {
        for good in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
            assert_eq!(
                check_headers(Method::POST, &[("content-length", "2"), ("content-type", good)]),
                Ok(Body::Allowed),
                "{good}"
            );
        }
        let bad = [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/jsonx",
            "",
            "text/plain;application/json",
        ];
        for bad in bad {
            let sent = [("content-length", "2"), ("content-type", bad)];
            assert_eq!(check_headers(Method::POST, &sent), Err(Error::MediaType), "{bad}");
        }
        let twice =
            [("content-length", "2"), ("content-type", "application/json"), ("content-type", "text/plain")];
        assert_eq!(check_headers(Method::POST, &twice), Err(Error::MediaType));
    }

    #[test]
    fn a_body_at_the_limit_passes_and_a_larger_one_does_not() {
        let sent = |length| {
            check_headers(Method::POST, &[("content-length", length), ("content-type", "application/json")])
        };
        assert_eq!(sent("100"), Ok(Body::Allowed));
        assert_eq!(sent("101"), Err(Error::TooLarge));
        assert_eq!(sent("99999999999999999999999"), Err(Error::TooLarge));
    }
}

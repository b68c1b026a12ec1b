//! Request bodies: which requests may have one, their maximum size and their timeout. The middleware checks the head and
//! reads the body here, so that every handler gets a complete body.

use std::time::Duration;

use actix_web::{
    HttpMessage,
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    http::{
        Method,
        header::{self, HeaderMap},
    },
    web::Bytes,
};
use futures_util::Stream;
use runtime::body::ReadError;
use serde_json::Value;

use crate::error::Error;

/// The body that a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// The head declares no body, or the service reads it.
    None,
    /// JSON.
    Json,
    /// The declared body must turn out to be empty.
    Empty,
}

/// The byte order mark that some clients on Windows write before JSON (RFC 8259 §8.1 allows a parser to ignore it).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The maximum size of a body that counts as empty, in bytes: `{}` and white space.
const MAX_EMPTY_BODY: usize = 64;

/// Checks the body that the head declares. A request that changes state must have JSON, because forms of other sites cannot
/// send JSON. Many clients declare a body of unknown length and send no bytes, or send an empty object with DELETE.
pub(crate) fn check(method: &Method, headers: &HeaderMap, limit: usize) -> Result<Body, Error> {
    let Some(length) = declared_length(headers) else { return Ok(Body::None) };
    let is_unknown = headers.contains_key(header::TRANSFER_ENCODING);
    match *method {
        Method::DELETE if length > MAX_EMPTY_BODY => Err(Error::UnexpectedBody),
        Method::DELETE => Ok(Body::Empty),
        Method::POST | Method::PUT | Method::PATCH if length > limit => Err(Error::TooLarge),
        Method::POST | Method::PUT | Method::PATCH if is_encoded(headers) => Err(Error::ContentEncoding),
        Method::POST | Method::PUT | Method::PATCH if is_json(headers) => Ok(Body::Json),
        Method::POST | Method::PUT | Method::PATCH if is_unknown => Ok(Body::Empty),
        Method::POST | Method::PUT | Method::PATCH => Err(Error::MediaType),
        Method::GET | Method::HEAD if is_unknown => Ok(Body::Empty),
        _ => Err(Error::UnexpectedBody),
    }
}

/// Reads the body of at most `limit` bytes, `within` this time, and puts it back into the request without a byte order mark.
/// Removes an empty body. With DELETE `{}` and `null` count as empty.
pub(crate) async fn receive(
    request: &mut ServiceRequest,
    body: Body,
    limit: usize,
    within: Duration,
) -> Result<(), Error> {
    match body {
        Body::None => return Ok(()),
        Body::Json => {
            let body = read(request.take_payload(), limit, within).await?;
            let body = body.strip_prefix(BYTE_ORDER_MARK).map_or(body.clone(), |json| body.slice_ref(json));
            request.set_payload(Payload::from(body));
            return Ok(());
        }
        Body::Empty => {}
    }
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

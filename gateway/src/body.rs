//! Request bodies: who may have one, how large, and how long it may take. The door checks the head here and wraps the
//! stream, so that every handler reads a bounded body whatever it does with it.

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
    web::{self, Bytes, BytesMut},
};
use futures_util::{Stream, StreamExt};
use tokio::time::{Sleep, timeout};

use crate::error::Error;

/// What went wrong while a handler read the body, for the door to answer; shared by the stream and the door.
pub(crate) type Overrun = Rc<Cell<Option<Error>>>;

/// A request body that ends with an error once it is too large or too late.
struct Bounded {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>>,
    left: usize,
    deadline: Pin<Box<Sleep>>,
    overrun: Overrun,
}

/// May a request with this head have the body it announces?
pub(crate) fn check(method: &Method, headers: &HeaderMap, limit: usize) -> Result<(), Error> {
    let Some(length) = announced(headers) else { return Ok(()) };
    if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        return Err(Error::UnexpectedBody);
    }
    if length > limit {
        return Err(Error::TooLarge);
    }
    if is_json(headers) { Ok(()) } else { Err(Error::MediaType) }
}

/// Bounds the request's body, if it has one.
pub(crate) fn bound(request: &mut ServiceRequest, limit: usize, within: Duration) -> Overrun {
    let overrun = Overrun::default();
    if announced(request.headers()).is_some() {
        let stream = Bounded {
            inner: Box::pin(request.take_payload()),
            left: limit,
            deadline: Box::pin(tokio::time::sleep(within)),
            overrun: Rc::clone(&overrun),
        };
        request.set_payload(Payload::from(Box::pin(stream) as Pin<Box<dyn Stream<Item = _>>>));
    }
    overrun
}

/// How many bytes of body the head announces, as far as it says; none when there is no body.
pub(crate) fn announced(headers: &HeaderMap) -> Option<usize> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Some(0);
    }
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok();
    let length = length.and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    (length > 0).then_some(length)
}

/// The whole body, bounded, for who passes it on.
pub(crate) async fn read(mut payload: web::Payload, limit: usize, within: Duration) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    let reading = async {
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Error::BrokenBody)?;
            if body.len() + chunk.len() > limit {
                return Err(Error::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    };
    timeout(within, reading).await.map_err(|_| Error::BodyTimeout)??;
    Ok(body.freeze())
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE);
    let (Some(first), None) = (types.next(), types.next()) else { return false };
    let essence = first.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

impl Bounded {
    fn fail(&self, error: Error, as_read: PayloadError) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.overrun.set(Some(error));
        Poll::Ready(Some(Err(as_read)))
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
                    Poll::Ready(Some(Ok(chunk)))
                }
                None => self.fail(Error::TooLarge, PayloadError::Overflow),
            },
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

    fn ask(method: Method, pairs: &[(&'static str, &'static str)]) -> Result<(), Error> {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        check(&method, &map, 100)
    }

    #[test]
    fn only_posts_puts_and_patches_have_bodies() {
        let json = [("content-length", "2"), ("content-type", "application/json")];
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            assert_eq!(ask(method.clone(), &json), Ok(()));
            assert_eq!(ask(method.clone(), &[]), Ok(()));
            assert_eq!(ask(method, &[("content-length", "0"), ("content-type", "text/plain")]), Ok(()));
        }
        for method in [Method::GET, Method::HEAD, Method::DELETE] {
            assert_eq!(ask(method.clone(), &json), Err(Error::UnexpectedBody));
            assert_eq!(ask(method.clone(), &[("transfer-encoding", "chunked")]), Err(Error::UnexpectedBody));
            assert_eq!(ask(method, &[("content-length", "0")]), Ok(()));
        }
    }

    #[test]
    fn a_body_is_json_and_nothing_that_a_form_can_send() {
        for good in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
            assert_eq!(
                ask(Method::POST, &[("content-length", "2"), ("content-type", good)]),
                Ok(()),
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
            assert_eq!(ask(Method::POST, &sent), Err(Error::MediaType), "{bad}");
        }
        let chunked = [("transfer-encoding", "chunked"), ("content-type", "text/plain")];
        assert_eq!(ask(Method::POST, &chunked), Err(Error::MediaType));
        let twice =
            [("content-length", "2"), ("content-type", "application/json"), ("content-type", "text/plain")];
        assert_eq!(ask(Method::POST, &twice), Err(Error::MediaType));
    }

    #[test]
    fn the_limit_passes_and_one_more_does_not() {
        let sent =
            |length| ask(Method::POST, &[("content-length", length), ("content-type", "application/json")]);
        assert_eq!(sent("100"), Ok(()));
        assert_eq!(sent("101"), Err(Error::TooLarge));
        assert_eq!(sent("99999999999999999999999"), Err(Error::TooLarge));
    }
}

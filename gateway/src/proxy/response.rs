//! Relays the response of a service: its status, the filtered headers, and its body at the speed of the client.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    body::{BodySize, BoxBody, MessageBody},
    http::StatusCode,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Response,
    body::{Body, Incoming},
    http::response::Parts,
};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::headers;
use crate::{error::Error, in_flight::RequestGuard};

/// How long a service may pause within a response body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of the refusal of a handshake, in bytes.
const MAX_REFUSAL: usize = 16 * 1024;

/// A body that is relayed as it arrives.
struct Relayed {
    size: BodySize,
    body: Incoming,
    deadline: Pin<Box<Sleep>>,
    /// In flight until the client has received the whole body.
    _request: RequestGuard,
}

/// The response to the client.
pub(super) fn relay(response: Response<Incoming>, request: RequestGuard) -> Result<HttpResponse, Error> {
    let (head, body) = response.into_parts();
    let size = body.size_hint().exact().map_or(BodySize::Stream, BodySize::Sized);
    let deadline = Box::pin(sleep(BODY_TIMEOUT));
    Ok(builder(&head)?.body(BoxBody::new(Relayed { size, body, deadline, _request: request })))
}

/// The response to the client for the refusal of its handshake. The connection closes after it, even when the client has
/// sent more bytes.
pub(super) async fn relay_refusal(response: Response<Incoming>) -> Result<HttpResponse, Error> {
    let (head, body) = response.into_parts();
    let mut response = builder(&head)?;
    let body = timeout(BODY_TIMEOUT, Limited::new(body, MAX_REFUSAL).collect())
        .await
        .map_err(|_| Error::UpstreamTimeout)?;
    let body = body.map_err(|_| Error::InvalidResponse)?.to_bytes();
    Ok(response.force_close().body(body))
}

/// A response with the status and the filtered headers.
pub(super) fn builder(head: &Parts) -> Result<HttpResponseBuilder, Error> {
    let status = StatusCode::from_u16(head.status.as_u16()).map_err(|_| Error::InvalidResponse)?;
    let mut response = HttpResponse::build(status);
    for header in headers::response_headers(&head.headers) {
        response.append_header(header);
    }
    Ok(response)
}

impl MessageBody for Relayed {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.deadline.as_mut().reset(Instant::now() + BODY_TIMEOUT);
                    // Other frames are trailers, which are not forwarded.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.deadline.as_mut().poll(cx).is_ready() => {
                    return Poll::Ready(Some(Err("the service paused within its response".into())));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

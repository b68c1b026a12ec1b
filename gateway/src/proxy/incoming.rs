//! Relays the response of a service: its status, the filtered headers, and its body at the speed of the client.

use std::{
    collections::VecDeque,
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
use cluster::Backend;
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

/// The bytes of a body that are read before its response begins. A malformed body gets 502 until then; later it can only
/// close the connection.
const READ_AHEAD: usize = 16 * 1024;

/// How long to wait for more of a body before the response begins.
const READ_AHEAD_TIMEOUT: Duration = Duration::from_millis(20);

/// A body that is relayed as it arrives, at the speed of the client.
struct Relayed {
    /// Chunks that were read before the response began.
    ahead: VecDeque<Bytes>,
    size: BodySize,
    body: Incoming,
    deadline: Pin<Box<Sleep>>,
    /// In flight until the client has received the whole body.
    _request: RequestGuard,
}

/// The response to the client, after the start of its body was read, which may take `within`.
pub(super) async fn relay(
    response: Response<Incoming>,
    backend: &Backend,
    request: RequestGuard,
    within: Duration,
) -> Result<HttpResponse, Error> {
    let (head, mut body) = response.into_parts();
    let size = body.size_hint().exact().map_or(BodySize::Stream, BodySize::Sized);
    let ahead = timeout(within.min(BODY_TIMEOUT), read_ahead(&mut body, backend))
        .await
        .map_err(|_| Error::UpstreamTimeout)??;
    let mut response = response_builder(&head)?;
    let deadline = Box::pin(sleep(BODY_TIMEOUT));
    Ok(response.body(BoxBody::new(Relayed { ahead, size, body, deadline, _request: request })))
}

/// Reads the first part of a body, and what arrives within [`READ_AHEAD_TIMEOUT`] after it.
async fn read_ahead(body: &mut Incoming, backend: &Backend) -> Result<VecDeque<Bytes>, Error> {
    let (mut ahead, mut length) = (VecDeque::new(), 0);
    while length < READ_AHEAD && !body.is_end_stream() {
        let frame = match ahead.is_empty() {
            true => body.frame().await,
            false => match timeout(READ_AHEAD_TIMEOUT, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => break,
            },
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            tracing::warn!(%backend, %error, "a service sends a malformed response body; the client gets 502");
            Error::InvalidResponse
        })?;
        // Other frames are trailers, which are not forwarded.
        if let Ok(data) = frame.into_data() {
            length += data.len();
            ahead.push_back(data);
        }
    }
    Ok(ahead)
}

/// Relays the refusal of a handshake. The connection closes after it, even when the client has sent more bytes.
pub(super) async fn relay_refusal(response: Response<Incoming>) -> Result<HttpResponse, Error> {
    let (head, body) = response.into_parts();
    let mut response = response_builder(&head)?;
    let body = timeout(BODY_TIMEOUT, Limited::new(body, MAX_REFUSAL).collect())
        .await
        .map_err(|_| Error::UpstreamTimeout)?;
    let body = body.map_err(|_| Error::InvalidResponse)?.to_bytes();
    Ok(response.force_close().body(body))
}

/// A response with the status and the filtered headers.
pub(super) fn response_builder(head: &Parts) -> Result<HttpResponseBuilder, Error> {
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
        if let Some(data) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(data)));
        }
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

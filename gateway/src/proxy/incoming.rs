//! A service's answer on its way back: its status, the headers that pass, and its body as the client reads it.

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
use http_body_util::{BodyExt, Limited};
use hyper::{
    Response,
    body::{Body, Incoming},
    http::response::Parts,
};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::{headers, traffic};
use crate::error::Error;

/// How long a service may pause in the middle of an answer.
const PAUSE: Duration = Duration::from_secs(10);

/// The largest answer to a handshake that is no WebSocket, in bytes.
const REFUSAL: usize = 16 * 1024;

/// What is read of a body before its answer begins, in bytes. What is wrong with it is a 502; later it can only end the connection.
const AHEAD: usize = 16 * 1024;

/// How long more of a body is waited for before the answer begins.
const SOON: Duration = Duration::from_millis(20);

/// A body that is passed on as it comes, no faster than the client reads.
struct Relayed {
    /// Read before the answer began.
    ahead: VecDeque<Bytes>,
    size: BodySize,
    body: Incoming,
    pause: Pin<Box<Sleep>>,
    /// Under way until the client has it all.
    _request: traffic::Request,
}

/// The answer as it goes back, once its body has begun well, which may take `within`.
pub(super) async fn relayed(
    answer: Response<Incoming>,
    request: traffic::Request,
    within: Duration,
) -> Result<HttpResponse, Error> {
    let (head, mut body) = answer.into_parts();
    let size = body.size_hint().exact().map_or(BodySize::Stream, BodySize::Sized);
    let ahead = timeout(within.min(PAUSE), begun(&mut body)).await.map_err(|_| Error::Late)??;
    let mut answer = started(&head)?;
    let pause = Box::pin(sleep(PAUSE));
    Ok(answer.body(BoxBody::new(Relayed { ahead, size, body, pause, _request: request })))
}

/// The first part of a body, and what arrives soon behind it.
async fn begun(body: &mut Incoming) -> Result<VecDeque<Bytes>, Error> {
    let (mut ahead, mut length) = (VecDeque::new(), 0);
    while length < AHEAD && !body.is_end_stream() {
        let frame = match ahead.is_empty() {
            true => body.frame().await,
            false => match timeout(SOON, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => break,
            },
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            tracing::warn!(%error, "the body of a service's answer is malformed");
            Error::Garbled
        })?;
        // What is not data are trailers, which nobody has asked for.
        if let Ok(data) = frame.into_data() {
            length += data.len();
            ahead.push_back(data);
        }
    }
    Ok(ahead)
}

/// The answer to a handshake that came to nothing. The connection ends with it, whatever the client has sent behind it.
pub(super) async fn refusal(answer: Response<Incoming>) -> Result<HttpResponse, Error> {
    let (head, body) = answer.into_parts();
    let mut answer = started(&head)?;
    let body = timeout(PAUSE, Limited::new(body, REFUSAL).collect()).await.map_err(|_| Error::Late)?;
    let body = body.map_err(|_| Error::Garbled)?.to_bytes();
    Ok(answer.force_close().body(body))
}

/// Status and headers.
pub(super) fn started(head: &Parts) -> Result<HttpResponseBuilder, Error> {
    let status = StatusCode::from_u16(head.status.as_u16()).map_err(|_| Error::Garbled)?;
    let mut answer = HttpResponse::build(status);
    for header in headers::returned(&head.headers) {
        answer.append_header(header);
    }
    Ok(answer)
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
                    self.pause.as_mut().reset(Instant::now() + PAUSE);
                    // What is not data are trailers, which nobody has asked for.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.pause.as_mut().poll(cx).is_ready() => {
                    return Poll::Ready(Some(Err("the service paused in its answer".into())));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

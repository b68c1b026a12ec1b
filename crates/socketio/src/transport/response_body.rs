//! The HTTP response body of a WebSocket: the session's frames and the pipe's own frames in one stream.
//! Created by [`super::ws`], polled by the HTTP server.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix::Addr;
use actix_web::Error;
use bytes::Bytes;
use futures_util::Stream;

use crate::{
    close::CloseReason,
    connection::send_queue::{QueueItem, SendQueue},
    engine::payload,
    session::{Inbound, PipeInput, Session, handler::SessionHandler, transport_state::PipeId},
    tcp::TcpHandle,
};

/// The largest number of frames that are sent in a row before the pipe is polled again.
const MAX_FRAMES_IN_A_ROW: usize = 64;

/// The response body: the session's frames, and the pipe's own frames (pongs). Every item contains complete
/// frames, so the two sources may alternate. Its drop notifies the session that the transport is closed.
pub(super) struct ResponseBody<S, T: SessionHandler> {
    inner: Option<Pin<Box<S>>>,
    handles: PipeHandles<T>,
    in_a_row: usize,
    /// Whether binary messages are sent as base64 text.
    is_base64: bool,
    /// Whether all frames were given to the HTTP server. It writes them before it polls again.
    ending: bool,
}

/// The session, the TCP connection and the send queue of a pipe.
pub(super) struct PipeHandles<T: SessionHandler> {
    pub(super) id: PipeId,
    pub(super) session: Addr<Session<T>>,
    pub(super) tcp: Arc<TcpHandle>,
    pub(super) send_queue: Arc<SendQueue>,
}

impl<S: Stream<Item = Result<Bytes, Error>>, T: SessionHandler> ResponseBody<S, T> {
    /// A body of `inner`, the pipe's own frames, and the frames of the send queue.
    pub(super) fn new(inner: Pin<Box<S>>, handles: PipeHandles<T>, is_base64: bool) -> Self {
        Self { inner: Some(inner), handles, in_a_row: 0, is_base64, ending: false }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        let Some(inner) = &mut self.inner else { return Poll::Pending };
        match inner.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => Poll::Ready(item),
            Poll::Ready(None) => {
                self.inner = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The session has ended. The server closes TCP first (RFC 6455 §7.1.1), and at once, where the HTTP
    /// server would linger. Before that the HTTP server must be polled once more to write the close frame.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if std::mem::replace(&mut self.ending, true) {
            self.handles.tcp.shutdown_write();
            return Poll::Ready(None);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Stream<Item = Result<Bytes, Error>>, T: SessionHandler> Stream for ResponseBody<S, T> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.in_a_row == MAX_FRAMES_IN_A_ROW {
            this.in_a_row = 0;
            if let Poll::Ready(item) = this.poll_inner(cx) {
                return Poll::Ready(Some(item));
            }
        }
        loop {
            match this.handles.send_queue.poll_take(cx) {
                Poll::Ready(QueueItem::Frame(frame)) => {
                    this.in_a_row += 1;
                    let frame = if this.is_base64 { payload::without_binary(frame) } else { frame };
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(QueueItem::Moved(other)) => this.handles.send_queue = other,
                Poll::Ready(QueueItem::Ended) => return this.poll_end(cx),
                Poll::Pending => {
                    this.in_a_row = 0;
                    return this.poll_inner(cx).map(Some);
                }
            }
        }
    }
}

impl<S, T: SessionHandler> Drop for ResponseBody<S, T> {
    fn drop(&mut self) {
        self.handles.tcp.release();
        let input = PipeInput::Failed(CloseReason::TransportClose);
        self.handles.session.do_send(Inbound { pipe: self.handles.id, input, permit: None });
    }
}

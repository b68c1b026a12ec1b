//! The body of the HTTP answer that a WebSocket is: what the session sends and what the pipe itself answers, in one stream. Made by
//! [`super::ws`], polled by the HTTP server.

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
    session::{Inbound, PipeInput, Session, handler::SessionHandler, transport_state::PipeId},
    tcp::TcpHandle,
};

/// So many frames leave in a row before the client is listened to again.
const MAX_FRAMES_IN_A_ROW: usize = 64;

/// The response body: what the session sends, and the pipe's own frames (pongs). Every item is whole frames, so the two may
/// alternate freely. Dropped, it tells the session that the transport is gone.
pub(super) struct ResponseBody<S, O: SessionHandler> {
    inner: Option<Pin<Box<S>>>,
    end: PipeHandles<O>,
    in_a_row: usize,
    /// Everything was given to the HTTP server, which writes it once this is polled again.
    ending: bool,
}

/// Everything of a pipe that outlives one poll of it.
pub(super) struct PipeHandles<O: SessionHandler> {
    pub(super) id: PipeId,
    pub(super) session: Addr<Session<O>>,
    pub(super) tcp: Arc<TcpHandle>,
    pub(super) send_queue: Arc<SendQueue>,
}

impl<S: Stream<Item = Result<Bytes, Error>>, O: SessionHandler> ResponseBody<S, O> {
    /// A body of `inner`, the pipe's own frames, and of what the send_queue of `end` brings.
    pub(super) fn new(inner: Pin<Box<S>>, end: PipeHandles<O>) -> Self {
        Self { inner: Some(inner), end, in_a_row: 0, ending: false }
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

    /// The session has ended. The server closes TCP first (RFC 6455 §7.1.1), at once, where the HTTP server would linger; but
    /// only after it has had a turn to write the close frame.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if std::mem::replace(&mut self.ending, true) {
            self.end.tcp.shutdown_write();
            return Poll::Ready(None);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Stream<Item = Result<Bytes, Error>>, O: SessionHandler> Stream for ResponseBody<S, O> {
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
            match this.end.send_queue.poll_take(cx) {
                Poll::Ready(QueueItem::Frame(frame)) => {
                    this.in_a_row += 1;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(QueueItem::Moved(other)) => this.end.send_queue = other,
                Poll::Ready(QueueItem::Ended) => return this.poll_end(cx),
                Poll::Pending => {
                    this.in_a_row = 0;
                    return this.poll_inner(cx).map(Some);
                }
            }
        }
    }
}

impl<S, O: SessionHandler> Drop for ResponseBody<S, O> {
    fn drop(&mut self) {
        self.end.tcp.release();
        let input = PipeInput::Failed(CloseReason::TransportClose);
        self.end.session.do_send(Inbound { pipe: self.end.id, input, permit: None });
    }
}

//! The client's bytes as the [`super::guard`] accepts them, for the WebSocket codec. Used by the pipe in
//! [`super::ws`].
//!
//! The stream passes on one frame at a time, and nothing while the backlog is full, so that a flood waits in
//! the kernel. It also enforces the time within which a message must be complete.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Sleep;

use super::{
    frame_splitter::{FrameSplitter, MAX_FRAGMENT, SplitBytes},
    guard::{Guard, Violation},
};
use crate::session::backlog::Backlog;

/// State shared by the guarded stream and its pipe.
#[derive(Debug, Default)]
pub(crate) struct FlowControl {
    /// A complete frame was passed on, and the pipe has not consumed it.
    in_flight: Cell<bool>,
    violation: Cell<Option<Violation>>,
    /// The messages that the pipe has passed on.
    pub(crate) backlog: Arc<Backlog>,
}

impl FlowControl {
    /// The pipe has consumed a frame: the next one may be passed on.
    pub(crate) fn frame_consumed(&self) {
        self.in_flight.set(false);
    }

    /// The violation that ended the stream, if any.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.get()
    }
}

/// The client's bytes as the guard accepts them. Ends at the first violation.
pub(crate) struct GuardedStream<S> {
    inner: S,
    guard: Guard,
    splitter: FrameSplitter,
    flow: Rc<FlowControl>,
    rest: Bytes,
    /// The time within which a message must be complete.
    message_timeout: Duration,
    /// The deadline of the incomplete message. Created only for a message that does not arrive at once.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> GuardedStream<S> {
    /// Guards `inner`. `flow` is shared with the pipe.
    pub(crate) fn new(
        inner: S,
        max_payload: usize,
        message_timeout: Duration,
        flow: Rc<FlowControl>,
    ) -> Self {
        let (guard, splitter) = (Guard::new(max_payload), FrameSplitter::default());
        Self { inner, guard, splitter, flow, rest: Bytes::new(), message_timeout, deadline: None }
    }

    /// Passes bytes on, at most to the end of a frame. `None` if the splitter buffers them.
    fn forward(&mut self) -> Result<Option<SplitBytes>, Violation> {
        let passed = self.guard.follow(&self.rest[..self.rest.len().min(MAX_FRAGMENT)])?;
        if self.guard.is_idle() {
            self.deadline = None;
        }
        Ok(self.splitter.take(take(&mut self.rest, passed.bytes), passed.frame_ended))
    }

    /// No data was received. An incomplete message must not exceed its deadline.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.guard.is_idle() {
            return Poll::Pending;
        }
        let message_timeout = self.message_timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(message_timeout)));
        deadline.as_mut().poll(cx)
    }
}

impl<S, E> Stream for GuardedStream<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = Result<Bytes, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.flow.violation().is_some() {
            return Poll::Ready(None);
        }
        if this.flow.in_flight.get() {
            // No waker is needed: the codec holds a complete frame, so the pipe polls again after consuming
            // it.
            return Poll::Pending;
        }
        if this.flow.backlog.poll_capacity(cx).is_pending() {
            return Poll::Pending;
        }
        loop {
            while this.rest.is_empty() {
                match Pin::new(&mut this.inner).poll_next(cx) {
                    Poll::Ready(Some(Ok(chunk))) => this.rest = chunk,
                    // The end of a lost connection. The codec would report the error as one of its own.
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                    Poll::Pending => {
                        return this.poll_deadline(cx).map(|()| {
                            this.flow.violation.set(Some(Violation::TooSlow));
                            None
                        });
                    }
                }
            }
            match this.forward() {
                Ok(None) => {}
                Ok(Some((bytes, ends_frame))) => {
                    this.flow.in_flight.set(ends_frame);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Err(violation) => {
                    this.flow.violation.set(Some(violation));
                    return Poll::Ready(None);
                }
            }
        }
    }
}

/// Takes the first `count` bytes. A remainder keeps the server's whole read buffer alive, so an empty
/// remainder is replaced.
fn take(rest: &mut Bytes, count: usize) -> Bytes {
    if count == rest.len() { std::mem::take(rest) } else { rest.split_to(count) }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    /// Two text frames of one letter each.
    const FRAMES: [u8; 14] = [0x81, 0x81, 0, 0, 0, 0, b'a', 0x81, 0x81, 0, 0, 0, 0, b'b'];

    #[test]
    fn only_one_frame_is_passed_on_until_it_is_consumed() {
        let flow = Rc::new(FlowControl::default());
        let source = stream::iter([Ok::<_, ()>(Bytes::from_static(&FRAMES))]);
        let mut guarded = GuardedStream::new(source, 100, Duration::MAX, flow.clone());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut poll = || Pin::new(&mut guarded).poll_next(&mut cx);
        assert_eq!(poll(), Poll::Ready(Some(Ok(Bytes::from_static(&FRAMES[..7])))));
        assert_eq!(poll(), Poll::Pending);
        flow.frame_consumed();
        assert_eq!(poll(), Poll::Ready(Some(Ok(Bytes::from_static(&FRAMES[7..])))));
        flow.frame_consumed();
        assert_eq!(poll(), Poll::Ready(None));
        assert_eq!(flow.violation(), None);
    }

    #[actix_rt::test]
    async fn only_an_incomplete_message_has_a_deadline() {
        for (bytes, end) in [(&FRAMES[..7], None), (&FRAMES[..5], Some(Violation::TooSlow))] {
            let flow = Rc::new(FlowControl::default());
            let source = stream::iter([Ok::<_, ()>(Bytes::copy_from_slice(bytes))]).chain(stream::pending());
            let mut guarded = GuardedStream::new(source, 100, Duration::ZERO, flow.clone());
            if end.is_none() {
                assert!(matches!(guarded.next().await, Some(Ok(_))));
                flow.frame_consumed();
            }
            let over = tokio::time::timeout(Duration::from_millis(50), guarded.next()).await;
            assert_eq!(over.is_ok(), end.is_some());
            assert_eq!(flow.violation(), end);
        }
    }
}

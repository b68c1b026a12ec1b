//! The bounded queue of encoded frames toward one client. Whoever sends pushes, the transport takes. It lives outside the
//! transport's actor, which a client that does not read freezes.

use std::{
    cell::RefCell,
    collections::VecDeque,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Push {
    /// It will be sent.
    Queued,
    /// It was volatile, and the client is behind: left out.
    Skipped,
    /// The client is too far behind: nothing more can be queued, and the connection must end.
    Full,
    /// The connection is ending: nothing more is sent.
    Closed,
}

/// How much may wait, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) bytes: usize,
    /// Frames, or what was pushed as one.
    pub(crate) frames: usize,
    /// Time without any frame leaving while some wait.
    pub(crate) stall: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    limits: Limits,
    queue: RefCell<Queue>,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// When a frame last left, or the first of those that wait was queued.
    moved: Option<Instant>,
    waker: Option<Waker>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// What is queued still goes out, then the transport ends.
    Finishing,
    /// Nothing goes out any more.
    Aborted,
}

impl Outbox {
    /// An empty, open outbox.
    pub(crate) fn new(limits: Limits) -> Self {
        let queue = Queue { frames: VecDeque::new(), bytes: 0, moved: None, waker: None, state: State::Open };
        Self { limits, queue: RefCell::new(queue) }
    }

    /// Queues `frame`, which may be several frames in one piece. An empty outbox takes any one frame, so that an answer
    /// larger than the limit still reaches a client that keeps up.
    pub(crate) fn push(&self, frame: Bytes, volatile: bool, now: Instant) -> Push {
        let mut queue = self.queue.borrow_mut();
        if queue.state != State::Open {
            return Push::Closed;
        }
        if volatile && queue.is_half_full(self.limits) {
            return Push::Skipped;
        }
        if queue.is_over(self.limits, frame.len(), now) {
            return Push::Full;
        }
        queue.moved.get_or_insert(now);
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        Push::Queued
    }

    /// Takes the next frame; ready with none when the outbox has ended and everything is out.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, now: Instant) -> Poll<Option<Bytes>> {
        let mut queue = self.queue.borrow_mut();
        if let Some(frame) = queue.frames.pop_front() {
            queue.bytes -= frame.len();
            queue.moved = (!queue.frames.is_empty()).then_some(now);
            return Poll::Ready(Some(frame));
        }
        if queue.state != State::Open {
            return Poll::Ready(None);
        }
        if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queue.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Lets what is queued go out, then `last`, then ends.
    pub(crate) fn finish(&self, last: Bytes) {
        self.end(State::Finishing, |queue| {
            queue.bytes += last.len();
            queue.frames.push_back(last);
        });
    }

    /// Ends at once; what is queued is dropped.
    pub(crate) fn abort(&self) {
        self.end(State::Aborted, |queue| {
            queue.frames = VecDeque::new();
            queue.bytes = 0;
        });
    }

    fn end(&self, state: State, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.borrow_mut();
        if queue.state != State::Open {
            return;
        }
        queue.state = state;
        change(&mut queue);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether frames wait and none has left for longer than the limit.
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        self.queue.borrow().is_stalled(self.limits, now)
    }
}

impl Queue {
    fn is_half_full(&self, limits: Limits) -> bool {
        self.bytes > limits.bytes / 2 || self.frames.len() > limits.frames / 2
    }

    fn is_over(&self, limits: Limits, more: usize, now: Instant) -> bool {
        let too_many = self.frames.len() >= limits.frames;
        let too_much = !self.frames.is_empty() && self.bytes + more > limits.bytes;
        too_many || too_much || self.is_stalled(limits, now)
    }

    fn is_stalled(&self, limits: Limits, now: Instant) -> bool {
        self.moved.is_some_and(|moved| now.saturating_duration_since(moved) > limits.stall)
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;

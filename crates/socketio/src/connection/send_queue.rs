//! The bounded queue of encoded frames toward one client. Senders push, the transport takes. The queue is
//! separate from the transport, because a client that does not read blocks its transport, and because the
//! transport may run on another worker than the session.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;

pub(crate) use super::limits::{Limits, Pressure, PushOutcome};

/// The largest number of checks by `shard::backpressure` in which all senders wait for one client before it
/// has caught up.
pub(super) const MAX_GLOBAL_WAITS: u32 = 100;

/// An item that a transport takes.
#[derive(Debug)]
pub(crate) enum QueueItem {
    /// The next frame, or several frames that were pushed together.
    Frame(Bytes),
    /// The queue is drained. Continue with this queue.
    Moved(Arc<SendQueue>),
    /// The queue is drained and closed.
    Ended,
}

/// The send queue of one client.
#[derive(Debug)]
pub(crate) struct SendQueue {
    limits: Limits,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// When a sender last observed progress. `None` while the queue is empty.
    last_progress: Option<Instant>,
    /// Whether a frame was taken since then.
    has_progress: bool,
    /// The number of frames taken so far.
    dequeued: u64,
    /// Whether senders no longer wait for this client.
    given_up: bool,
    /// The number of checks in which all senders may still wait for this client.
    global_waits_left: u32,
    waker: Option<Waker>,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Open,
    /// The queued frames are sent, then the transport closes.
    Finishing,
    /// Nothing more is sent.
    Aborted,
    /// The queued frames are sent, then the transport continues with another queue.
    Moved(Arc<SendQueue>),
}

impl SendQueue {
    /// An empty, open queue.
    pub(crate) fn new(limits: Limits) -> Self {
        let queue = Queue {
            frames: VecDeque::new(),
            bytes: 0,
            last_progress: None,
            has_progress: false,
            dequeued: 0,
            given_up: false,
            global_waits_left: MAX_GLOBAL_WAITS,
            waker: None,
            state: State::Open,
        };
        Self { limits, queue: Mutex::new(queue) }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the encoded frames of one packet as one entry. An empty queue accepts an entry of any size, so
    /// that an ack larger than the limit reaches a client that keeps up.
    pub(crate) fn push(&self, frame: Bytes, volatile: bool, now: Instant) -> PushOutcome {
        let mut queue = self.queue();
        if !matches!(queue.state, State::Open) {
            return PushOutcome::Closed;
        }
        if volatile && queue.is_half_full(&self.limits) {
            return PushOutcome::Dropped;
        }
        if queue.is_over(&self.limits, frame.len(), now) {
            return PushOutcome::Full;
        }
        queue.record_progress(now);
        self.limits.budget.acquire(frame.len());
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        let is_lagging = queue.is_under(Pressure::Behind, &self.limits);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        if is_lagging { PushOutcome::Lagging } else { PushOutcome::Queued }
    }

    /// Takes the next frame, or returns why the queue has no frame.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<QueueItem> {
        let mut queue = self.queue();
        if let Some(frame) = queue.pop(&self.limits) {
            return Poll::Ready(QueueItem::Frame(frame));
        }
        match &queue.state {
            State::Finishing | State::Aborted => return Poll::Ready(QueueItem::Ended),
            State::Moved(other) => return Poll::Ready(QueueItem::Moved(other.clone())),
            State::Open => {}
        }
        if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queue.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes the next frame if there is one and `wanted` accepts it.
    pub(crate) fn take_if(&self, wanted: impl FnOnce(&Bytes) -> bool) -> Option<Bytes> {
        let mut queue = self.queue();
        queue.frames.front().is_some_and(wanted).then(|| queue.pop(&self.limits)).flatten()
    }

    /// Ready when a frame is queued, or the queue is not open.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.queue();
        if !queue.frames.is_empty() || !matches!(queue.state, State::Open) {
            return Poll::Ready(());
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The number of frames taken so far, if the queue is under this pressure and senders should wait for it.
    pub(crate) fn lag(&self, pressure: Pressure) -> Option<u64> {
        let queue = self.queue();
        let is_open = matches!(queue.state, State::Open);
        let is_exhausted = pressure == Pressure::Critical && queue.global_waits_left == 0;
        let should_wait =
            is_open && !queue.given_up && !is_exhausted && queue.is_under(pressure, &self.limits);
        should_wait.then_some(queue.dequeued)
    }

    /// Counts one check in which all senders waited for this client.
    pub(crate) fn record_global_wait(&self) {
        let mut queue = self.queue();
        queue.global_waits_left = queue.global_waits_left.saturating_sub(1);
    }

    /// The number of frames taken so far. Frames that were pushed together count as one.
    pub(crate) fn dequeued(&self) -> u64 {
        self.queue().dequeued
    }

    /// Senders do not wait for this client until a frame is taken.
    pub(crate) fn give_up(&self) {
        self.queue().given_up = true;
    }

    /// Whether the queue is more than half full.
    pub(crate) fn is_half_full(&self) -> bool {
        self.queue().is_half_full(&self.limits)
    }

    /// Whether the queue is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue().frames.is_empty()
    }

    /// Closes the queue: sends the queued frames, then `last`.
    pub(crate) fn finish(&self, last: Bytes) {
        self.end(State::Finishing, |queue| {
            self.limits.budget.acquire(last.len());
            queue.bytes += last.len();
            queue.frames.push_back(last);
        });
    }

    /// Closes the queue at once. Queued frames are dropped.
    pub(crate) fn abort(&self) {
        self.end(State::Aborted, |queue| {
            queue.frames = VecDeque::new();
            self.limits.budget.release(mem::take(&mut queue.bytes));
        });
    }

    /// Closes the queue: sends the queued frames, then the transport continues with `other`.
    pub(crate) fn move_to(&self, other: Arc<Self>) {
        self.end(State::Moved(other), |_| {});
    }

    fn end(&self, state: State, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue();
        if !matches!(queue.state, State::Open) {
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

    /// Whether frames are queued without progress for longer than the limit.
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        self.queue().is_stalled(&self.limits, now)
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        let left = self.queue().bytes;
        self.limits.budget.release(left);
    }
}

impl Queue {
    fn pop(&mut self, limits: &Limits) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        limits.budget.release(frame.len());
        self.has_progress = true;
        self.dequeued += 1;
        self.given_up = false;
        if self.global_waits_left < MAX_GLOBAL_WAITS && !self.is_under(Pressure::Behind, limits) {
            self.global_waits_left = MAX_GLOBAL_WAITS;
        }
        Some(frame)
    }

    /// Only senders record the time, so sender and transport need not agree on the time.
    fn record_progress(&mut self, now: Instant) {
        if mem::take(&mut self.has_progress) || self.frames.is_empty() {
            self.last_progress = Some(now);
        }
    }

    fn is_half_full(&self, limits: &Limits) -> bool {
        self.is_over_eighths(4, limits)
    }

    fn is_under(&self, pressure: Pressure, limits: &Limits) -> bool {
        match pressure {
            Pressure::Behind => self.is_over_eighths(3, limits),
            Pressure::Critical => self.is_over_eighths(5, limits),
        }
    }

    fn is_over_eighths(&self, eighths: usize, limits: &Limits) -> bool {
        let of = |limit: usize| limit / 8 * eighths + limit % 8 * eighths / 8;
        self.bytes > of(limits.bytes) || self.frames.len() > of(limits.frames)
    }

    fn is_over(&self, limits: &Limits, more: usize, now: Instant) -> bool {
        let too_many = self.frames.len() >= limits.frames;
        let too_much = !self.frames.is_empty() && self.bytes + more > limits.bytes;
        let is_over_budget = limits.budget.is_exceeded() && self.is_half_full(limits);
        too_many || too_much || is_over_budget || self.is_stalled(limits, now)
    }

    fn is_stalled(&self, limits: &Limits, now: Instant) -> bool {
        let has_waiting_frames = !self.frames.is_empty() && !self.has_progress;
        has_waiting_frames
            && self
                .last_progress
                .is_some_and(|last_progress| now.saturating_duration_since(last_progress) > limits.stall)
    }
}

#[cfg(test)]
#[path = "send_queue_tests.rs"]
mod tests;

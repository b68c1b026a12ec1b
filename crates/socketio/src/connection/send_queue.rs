//! The bounded queue of encoded frames toward one client. Whoever sends pushes, the transport takes. It lives outside the
//! transport, which a client that does not read freezes, and which may run on another worker than its session.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;

pub(crate) use super::limits::{Limits, Pressure, PushOutcome};

/// How often all may wait for one client, in looks of `shard::pace`, until it has caught up.
const MAX_GLOBAL_WAITS: u32 = 100;

/// What a transport takes.
#[derive(Debug)]
pub(crate) enum QueueItem {
    /// The next frame, or what was pushed as one.
    Frame(Bytes),
    /// Everything is out; go on with this one.
    Moved(Arc<SendQueue>),
    /// Everything is out, and nothing more comes.
    Ended,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SendQueue {
    limits: Limits,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// When the pusher last knew that frames leave; none while nothing waits.
    last_progress: Option<Instant>,
    /// Whether a frame has left since.
    has_progress: bool,
    /// How many frames have left so far.
    dequeued: u64,
    /// Whether nobody waits for this client any more.
    given_up: bool,
    /// How often all may still wait for it until it has caught up.
    global_waits_left: u32,
    waker: Option<Waker>,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Open,
    /// What is queued still goes out, then the transport ends.
    Finishing,
    /// Nothing goes out any more.
    Aborted,
    /// What is queued still goes out, then the transport goes on with another send_queue.
    Moved(Arc<SendQueue>),
}

impl SendQueue {
    /// An empty, open send_queue.
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

    /// Queues `frame`, which may be several frames in one piece. An empty send_queue takes any one frame, so that an answer
    /// larger than the limit still reaches a client that keeps up.
    pub(crate) fn push(&self, frame: Bytes, volatile: bool, now: Instant) -> PushOutcome {
        let mut queue = self.queue();
        if !matches!(queue.state, State::Open) {
            return PushOutcome::Closed;
        }
        if volatile && queue.is_half_full(&self.limits) {
            return PushOutcome::Skipped;
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

    /// Takes the next frame, or what there is to know when none is left.
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

    /// Takes a frame if there is one and it is `wanted`.
    pub(crate) fn take_if(&self, wanted: impl FnOnce(&Bytes) -> bool) -> Option<Bytes> {
        let mut queue = self.queue();
        queue.frames.front().is_some_and(wanted).then(|| queue.pop(&self.limits)).flatten()
    }

    /// Ready when there is a frame to take, or never will be.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.queue();
        if !queue.frames.is_empty() || !matches!(queue.state, State::Open) {
            return Poll::Ready(());
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// How many frames have left so far, of an send_queue under this pressure that is worth waiting for.
    pub(crate) fn lag(&self, pressure: Pressure) -> Option<u64> {
        let queue = self.queue();
        let is_open = matches!(queue.state, State::Open);
        let is_held = pressure == Pressure::Critical && queue.global_waits_left == 0;
        let waits = is_open && !queue.given_up && !is_held && queue.is_under(pressure, &self.limits);
        waits.then_some(queue.dequeued)
    }

    /// All wait for it once more.
    pub(crate) fn record_global_wait(&self) {
        let mut queue = self.queue();
        queue.global_waits_left = queue.global_waits_left.saturating_sub(1);
    }

    /// How many frames have left so far, or what was pushed as one.
    pub(crate) fn dequeued(&self) -> u64 {
        self.queue().dequeued
    }

    /// It is not worth waiting for until a frame leaves.
    pub(crate) fn give_up(&self) {
        self.queue().given_up = true;
    }

    /// Whether more than half of what may wait does.
    pub(crate) fn is_half_full(&self) -> bool {
        self.queue().is_half_full(&self.limits)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue().frames.is_empty()
    }

    /// Lets what is queued go out, then `last`, then ends.
    pub(crate) fn finish(&self, last: Bytes) {
        self.end(State::Finishing, |queue| {
            self.limits.budget.acquire(last.len());
            queue.bytes += last.len();
            queue.frames.push_back(last);
        });
    }

    /// Ends at once; what is queued is dropped.
    pub(crate) fn abort(&self) {
        self.end(State::Aborted, |queue| {
            queue.frames = VecDeque::new();
            self.limits.budget.release(mem::take(&mut queue.bytes));
        });
    }

    /// Lets what is queued go out; then whoever takes from here goes on with `other`.
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

    /// Whether frames wait and none has left for longer than the limit.
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

    /// Only the pusher's timer counts, so that both sides need not agree on the time.
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
        let waits = !self.frames.is_empty() && !self.has_progress;
        waits
            && self
                .last_progress
                .is_some_and(|last_progress| now.saturating_duration_since(last_progress) > limits.stall)
    }
}

#[cfg(test)]
#[path = "send_queue_tests.rs"]
mod tests;

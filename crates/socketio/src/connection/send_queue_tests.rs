//! The send queue: order, bounds, and the ways to close it.

use std::time::Duration;

use super::*;
use crate::connection::budget::Budget;

const STALL: Duration = Duration::from_secs(5);

fn limits() -> Limits {
    Limits { bytes: 100, frames: 10, stall: STALL, budget: Arc::new(Budget::new(1000)) }
}

fn frame(length: usize) -> Bytes {
    Bytes::from(vec![b'x'; length])
}

/// The result of a take, comparable.
#[derive(Debug, PartialEq)]
enum Taken {
    Frame(Bytes),
    Moved,
    Ended,
}

fn take(send_queue: &SendQueue) -> Poll<Taken> {
    send_queue.poll_take(&mut Context::from_waker(Waker::noop())).map(|taken| match taken {
        QueueItem::Frame(frame) => Taken::Frame(frame),
        QueueItem::Moved(_) => Taken::Moved,
        QueueItem::Ended => Taken::Ended,
    })
}

fn taken(text: &'static str) -> Poll<Taken> {
    Poll::Ready(Taken::Frame(Bytes::from(text)))
}

#[test]
fn frames_are_taken_in_the_order_of_the_pushes() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    for text in ["a", "b"] {
        assert_eq!(send_queue.push(Bytes::from(text), false, now), PushOutcome::Queued);
    }
    assert_eq!(take(&send_queue), taken("a"));
    assert_eq!(take(&send_queue), taken("b"));
    assert_eq!(take(&send_queue), Poll::Pending);
}

#[test]
fn bytes_are_bounded_at_the_limit_and_not_before() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(frame(60), false, now), PushOutcome::Lagging);
    assert_eq!(send_queue.push(frame(40), false, now), PushOutcome::Lagging);
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Full);
    assert!(take(&send_queue).is_ready());
    assert_eq!(send_queue.push(frame(60), false, now), PushOutcome::Lagging, "a taken frame frees its bytes");
}

#[test]
fn frames_are_bounded_at_the_limit_and_not_before() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    for count in 1..=10 {
        let want = if count > 3 { PushOutcome::Lagging } else { PushOutcome::Queued };
        assert_eq!(send_queue.push(frame(1), false, now), want);
    }
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Full);
}

#[test]
fn an_empty_queue_accepts_one_frame_of_any_size() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(frame(500), false, now), PushOutcome::Lagging);
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Full);
}

#[test]
fn volatile_frames_are_dropped_when_the_queue_is_half_full() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(frame(36), true, now), PushOutcome::Queued);
    assert_eq!(send_queue.push(frame(14), true, now), PushOutcome::Lagging);
    assert_eq!(send_queue.push(frame(1), true, now), PushOutcome::Lagging);
    assert_eq!(send_queue.push(frame(1), true, now), PushOutcome::Dropped);
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Lagging);
}

#[test]
fn a_stalled_queue_is_full() {
    let (send_queue, start) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(frame(1), false, start), PushOutcome::Queued);
    assert_eq!(send_queue.push(frame(1), false, start), PushOutcome::Queued);
    let at_the_limit = start + STALL;
    assert_eq!(send_queue.push(frame(1), false, at_the_limit), PushOutcome::Queued);
    assert!(take(&send_queue).is_ready());
    let later = at_the_limit + Duration::from_secs(5);
    assert!(!send_queue.is_stalled(later), "a frame was taken in between");
    assert_eq!(send_queue.push(frame(1), false, later), PushOutcome::Queued);
    let past = later + STALL + Duration::from_millis(1);
    assert!(send_queue.is_stalled(past));
    assert_eq!(send_queue.push(frame(1), false, past), PushOutcome::Full);
}

#[test]
fn lagging_clients_are_closed_first_when_the_shared_budget_is_exceeded() {
    let (one, other, now) = (limits(), limits(), Instant::now());
    let shared = Arc::new(Budget::new(100));
    let full = SendQueue::new(Limits { budget: shared.clone(), ..one });
    let empty = SendQueue::new(Limits { budget: shared.clone(), ..other });
    assert_eq!(full.push(frame(90), false, now), PushOutcome::Lagging);
    assert_eq!(empty.push(frame(20), false, now), PushOutcome::Queued);
    assert_eq!(
        full.push(frame(1), false, now),
        PushOutcome::Full,
        "the budget is exceeded, and this client lags"
    );
    assert_eq!(empty.push(frame(1), false, now), PushOutcome::Queued);
    assert!(take(&full).is_ready());
    assert_eq!(full.push(frame(1), false, now), PushOutcome::Queued);
    drop(full);
    empty.abort();
    assert_eq!(shared.used(), 0, "a dropped or aborted queue releases its bytes");
}

#[test]
fn finish_sends_the_queued_frames_then_the_last_frame_then_ends() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(Bytes::from("a"), false, now), PushOutcome::Queued);
    send_queue.finish(Bytes::from("close"));
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Closed);
    assert_eq!(take(&send_queue), taken("a"));
    assert_eq!(take(&send_queue), taken("close"));
    assert_eq!(take(&send_queue), Poll::Ready(Taken::Ended));
}

#[test]
fn a_transport_moves_on_when_the_queue_is_drained() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(Bytes::from("a"), false, now), PushOutcome::Queued);
    send_queue.move_to(Arc::new(SendQueue::new(limits())));
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Closed);
    assert_eq!(take(&send_queue), taken("a"));
    assert_eq!(take(&send_queue), Poll::Ready(Taken::Moved));
}

#[test]
fn a_push_wakes_the_waiting_transport() {
    let woken = std::sync::Arc::new(Flag::default());
    let waker = Waker::from(woken.clone());
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert!(send_queue.poll_take(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Queued);
    assert!(woken.0.load(std::sync::atomic::Ordering::SeqCst));
}

#[derive(Default)]
struct Flag(std::sync::atomic::AtomicBool);

impl std::task::Wake for Flag {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

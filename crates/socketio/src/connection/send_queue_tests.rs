//! The send_queue: order, bounds, and its two ways to end.

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

/// A frame, or why there is none.
#[derive(Debug, PartialEq)]
enum Got {
    Frame(Bytes),
    Moved,
    Ended,
}

fn take(send_queue: &SendQueue) -> Poll<Got> {
    send_queue.poll_take(&mut Context::from_waker(Waker::noop())).map(|taken| match taken {
        QueueItem::Frame(frame) => Got::Frame(frame),
        QueueItem::Moved(_) => Got::Moved,
        QueueItem::Ended => Got::Ended,
    })
}

fn got(text: &'static str) -> Poll<Got> {
    Poll::Ready(Got::Frame(Bytes::from(text)))
}

#[test]
fn frames_leave_in_the_order_they_came() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    for text in ["a", "b"] {
        assert_eq!(send_queue.push(Bytes::from(text), false, now), PushOutcome::Queued);
    }
    assert_eq!(take(&send_queue), got("a"));
    assert_eq!(take(&send_queue), got("b"));
    assert_eq!(take(&send_queue), Poll::Pending);
}

#[test]
fn bytes_are_bounded_at_the_limit_and_not_before() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(frame(60), false, now), PushOutcome::Lagging);
    assert_eq!(send_queue.push(frame(40), false, now), PushOutcome::Lagging);
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Full);
    assert!(take(&send_queue).is_ready());
    assert_eq!(send_queue.push(frame(60), false, now), PushOutcome::Lagging, "what left makes room");
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
fn an_empty_outbox_takes_one_frame_of_any_size() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(frame(500), false, now), PushOutcome::Lagging);
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Full);
}

#[test]
fn volatile_frames_are_skipped_when_the_outbox_is_half_full() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(frame(36), true, now), PushOutcome::Queued);
    assert_eq!(send_queue.push(frame(14), true, now), PushOutcome::Lagging);
    assert_eq!(send_queue.push(frame(1), true, now), PushOutcome::Lagging);
    assert_eq!(send_queue.push(frame(1), true, now), PushOutcome::Skipped);
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Lagging);
}

#[test]
fn frames_that_do_not_move_make_the_outbox_full() {
    let (send_queue, start) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(frame(1), false, start), PushOutcome::Queued);
    assert_eq!(send_queue.push(frame(1), false, start), PushOutcome::Queued);
    let at_the_limit = start + STALL;
    assert_eq!(send_queue.push(frame(1), false, at_the_limit), PushOutcome::Queued);
    assert!(take(&send_queue).is_ready());
    let later = at_the_limit + Duration::from_secs(5);
    assert!(!send_queue.is_stalled(later), "a frame left in between");
    assert_eq!(send_queue.push(frame(1), false, later), PushOutcome::Queued);
    let past = later + STALL + Duration::from_millis(1);
    assert!(send_queue.is_stalled(past));
    assert_eq!(send_queue.push(frame(1), false, past), PushOutcome::Full);
}

#[test]
fn those_who_are_behind_go_first_when_too_much_waits_for_all() {
    let (one, other, now) = (limits(), limits(), Instant::now());
    let shared = Arc::new(Budget::new(100));
    let full = SendQueue::new(Limits { budget: shared.clone(), ..one });
    let empty = SendQueue::new(Limits { budget: shared.clone(), ..other });
    assert_eq!(full.push(frame(90), false, now), PushOutcome::Lagging);
    assert_eq!(empty.push(frame(20), false, now), PushOutcome::Queued);
    assert_eq!(
        full.push(frame(1), false, now),
        PushOutcome::Full,
        "more waits than may, and this one is behind"
    );
    assert_eq!(empty.push(frame(1), false, now), PushOutcome::Queued);
    assert!(take(&full).is_ready());
    assert_eq!(full.push(frame(1), false, now), PushOutcome::Queued);
    drop(full);
    empty.abort();
    assert_eq!(shared.used(), 0, "whatever becomes of an send_queue, its bytes are given back");
}

#[test]
fn an_idle_outbox_never_stalls() {
    let (send_queue, start) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(frame(1), false, start), PushOutcome::Queued);
    assert!(take(&send_queue).is_ready());
    assert_eq!(send_queue.push(frame(1), false, start + Duration::from_secs(3600)), PushOutcome::Queued);
}

#[test]
fn finishing_sends_what_is_queued_then_the_last_frame_then_ends() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(Bytes::from("a"), false, now), PushOutcome::Queued);
    send_queue.finish(Bytes::from("close"));
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Closed);
    assert_eq!(take(&send_queue), got("a"));
    assert_eq!(take(&send_queue), got("close"));
    assert_eq!(take(&send_queue), Poll::Ready(Got::Ended));
}

#[test]
fn a_transport_is_sent_on_when_everything_is_out() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(Bytes::from("a"), false, now), PushOutcome::Queued);
    send_queue.move_to(Arc::new(SendQueue::new(limits())));
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Closed);
    assert_eq!(take(&send_queue), got("a"));
    assert_eq!(take(&send_queue), Poll::Ready(Got::Moved));
}

#[test]
fn aborting_drops_what_is_queued() {
    let (send_queue, now) = (SendQueue::new(limits()), Instant::now());
    assert_eq!(send_queue.push(frame(1), false, now), PushOutcome::Queued);
    send_queue.abort();
    send_queue.finish(Bytes::from("too late"));
    assert_eq!(take(&send_queue), Poll::Ready(Got::Ended));
}

#[test]
fn a_push_wakes_the_transport_that_waits() {
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

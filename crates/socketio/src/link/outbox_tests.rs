//! The outbox: order, bounds, and its two ways to end.

use std::time::Duration;

use super::*;
use crate::link::budget::Budget;

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

fn take(outbox: &Outbox) -> Poll<Got> {
    outbox.poll_take(&mut Context::from_waker(Waker::noop())).map(|taken| match taken {
        Taken::Frame(frame) => Got::Frame(frame),
        Taken::Moved(_) => Got::Moved,
        Taken::Ended => Got::Ended,
    })
}

fn got(text: &'static str) -> Poll<Got> {
    Poll::Ready(Got::Frame(Bytes::from(text)))
}

#[test]
fn frames_leave_in_the_order_they_came() {
    let (outbox, now) = (Outbox::new(limits()), Instant::now());
    for text in ["a", "b"] {
        assert_eq!(outbox.push(Bytes::from(text), false, now), Push::Queued);
    }
    assert_eq!(take(&outbox), got("a"));
    assert_eq!(take(&outbox), got("b"));
    assert_eq!(take(&outbox), Poll::Pending);
}

#[test]
fn bytes_are_bounded_at_the_limit_and_not_before() {
    let (outbox, now) = (Outbox::new(limits()), Instant::now());
    assert_eq!(outbox.push(frame(60), false, now), Push::Crowded);
    assert_eq!(outbox.push(frame(40), false, now), Push::Crowded);
    assert_eq!(outbox.push(frame(1), false, now), Push::Full);
    assert!(take(&outbox).is_ready());
    assert_eq!(outbox.push(frame(60), false, now), Push::Crowded, "what left makes room");
}

#[test]
fn frames_are_bounded_at_the_limit_and_not_before() {
    let (outbox, now) = (Outbox::new(limits()), Instant::now());
    for count in 1..=10 {
        let want = if count > 3 { Push::Crowded } else { Push::Queued };
        assert_eq!(outbox.push(frame(1), false, now), want);
    }
    assert_eq!(outbox.push(frame(1), false, now), Push::Full);
}

#[test]
fn an_empty_outbox_takes_one_frame_of_any_size() {
    let (outbox, now) = (Outbox::new(limits()), Instant::now());
    assert_eq!(outbox.push(frame(500), false, now), Push::Crowded);
    assert_eq!(outbox.push(frame(1), false, now), Push::Full);
}

#[test]
fn volatile_frames_are_skipped_when_the_outbox_is_half_full() {
    let (outbox, now) = (Outbox::new(limits()), Instant::now());
    assert_eq!(outbox.push(frame(36), true, now), Push::Queued);
    assert_eq!(outbox.push(frame(14), true, now), Push::Crowded);
    assert_eq!(outbox.push(frame(1), true, now), Push::Crowded);
    assert_eq!(outbox.push(frame(1), true, now), Push::Skipped);
    assert_eq!(outbox.push(frame(1), false, now), Push::Crowded);
}

#[test]
fn frames_that_do_not_move_make_the_outbox_full() {
    let (outbox, start) = (Outbox::new(limits()), Instant::now());
    assert_eq!(outbox.push(frame(1), false, start), Push::Queued);
    assert_eq!(outbox.push(frame(1), false, start), Push::Queued);
    let at_the_limit = start + STALL;
    assert_eq!(outbox.push(frame(1), false, at_the_limit), Push::Queued);
    assert!(take(&outbox).is_ready());
    let later = at_the_limit + Duration::from_secs(5);
    assert!(!outbox.is_stalled(later), "a frame left in between");
    assert_eq!(outbox.push(frame(1), false, later), Push::Queued);
    let past = later + STALL + Duration::from_millis(1);
    assert!(outbox.is_stalled(past));
    assert_eq!(outbox.push(frame(1), false, past), Push::Full);
}

#[test]
fn those_who_are_behind_go_first_when_too_much_waits_for_all() {
    let (one, other, now) = (limits(), limits(), Instant::now());
    let shared = Arc::new(Budget::new(100));
    let full = Outbox::new(Limits { budget: shared.clone(), ..one });
    let empty = Outbox::new(Limits { budget: shared.clone(), ..other });
    assert_eq!(full.push(frame(90), false, now), Push::Crowded);
    assert_eq!(empty.push(frame(20), false, now), Push::Queued);
    assert_eq!(full.push(frame(1), false, now), Push::Full, "more waits than may, and this one is behind");
    assert_eq!(empty.push(frame(1), false, now), Push::Queued);
    assert!(take(&full).is_ready());
    assert_eq!(full.push(frame(1), false, now), Push::Queued);
    drop(full);
    empty.abort();
    assert_eq!(shared.used(), 0, "whatever becomes of an outbox, its bytes are given back");
}

#[test]
fn an_idle_outbox_never_stalls() {
    let (outbox, start) = (Outbox::new(limits()), Instant::now());
    assert_eq!(outbox.push(frame(1), false, start), Push::Queued);
    assert!(take(&outbox).is_ready());
    assert_eq!(outbox.push(frame(1), false, start + Duration::from_secs(3600)), Push::Queued);
}

#[test]
fn finishing_sends_what_is_queued_then_the_last_frame_then_ends() {
    let (outbox, now) = (Outbox::new(limits()), Instant::now());
    assert_eq!(outbox.push(Bytes::from("a"), false, now), Push::Queued);
    outbox.finish(Bytes::from("close"));
    assert_eq!(outbox.push(frame(1), false, now), Push::Closed);
    assert_eq!(take(&outbox), got("a"));
    assert_eq!(take(&outbox), got("close"));
    assert_eq!(take(&outbox), Poll::Ready(Got::Ended));
}

#[test]
fn a_transport_is_sent_on_when_everything_is_out() {
    let (outbox, now) = (Outbox::new(limits()), Instant::now());
    assert_eq!(outbox.push(Bytes::from("a"), false, now), Push::Queued);
    outbox.move_to(Arc::new(Outbox::new(limits())));
    assert_eq!(outbox.push(frame(1), false, now), Push::Closed);
    assert_eq!(take(&outbox), got("a"));
    assert_eq!(take(&outbox), Poll::Ready(Got::Moved));
}

#[test]
fn aborting_drops_what_is_queued() {
    let (outbox, now) = (Outbox::new(limits()), Instant::now());
    assert_eq!(outbox.push(frame(1), false, now), Push::Queued);
    outbox.abort();
    outbox.finish(Bytes::from("too late"));
    assert_eq!(take(&outbox), Poll::Ready(Got::Ended));
}

#[test]
fn a_push_wakes_the_transport_that_waits() {
    let woken = std::sync::Arc::new(Flag::default());
    let waker = Waker::from(woken.clone());
    let (outbox, now) = (Outbox::new(limits()), Instant::now());
    assert!(outbox.poll_take(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(outbox.push(frame(1), false, now), Push::Queued);
    assert!(woken.0.load(std::sync::atomic::Ordering::SeqCst));
}

#[derive(Default)]
struct Flag(std::sync::atomic::AtomicBool);

impl std::task::Wake for Flag {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

//! How much one WebSocket has input that its session, perhaps on another worker, has not yet received. The pipe counts what it passes
//! on, and stops reading while there is too much: the rest waits in the kernel.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// From so many bytes on the pipe waits; one more message may be on its way.
const MAX_BACKLOG: usize = 64 * 1024;

/// What a message costs besides its own bytes.
const OVERHEAD: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    waker: AtomicWaker,
}

/// A message's part of the backlog, until it is received or dropped.
#[derive(Debug)]
pub(crate) struct BacklogPermit {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// Counts a message of `bytes` bytes.
    pub(crate) fn count(self: &Arc<Self>, bytes: usize) -> BacklogPermit {
        let bytes = bytes + OVERHEAD;
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        BacklogPermit { backlog: self.clone(), bytes }
    }

    /// Ready when the session has received enough for more.
    pub(crate) fn poll_capacity(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_capacity() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.has_capacity() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn has_capacity(&self) -> bool {
        self.bytes.load(Ordering::Acquire) < MAX_BACKLOG
    }
}

impl Drop for BacklogPermit {
    fn drop(&mut self) {
        if self.backlog.bytes.fetch_sub(self.bytes, Ordering::AcqRel) >= MAX_BACKLOG {
            self.backlog.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicBool,
        task::{Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    #[test]
    fn too_much_makes_the_pipe_wait_until_it_was_heard() {
        let (backlog, woken) = (Arc::new(Backlog::default()), Arc::new(Woken::default()));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let large = backlog.count(1_000_000);
        let small = backlog.count(1);
        assert!(backlog.poll_capacity(&mut cx).is_pending());
        drop(small);
        assert!(backlog.poll_capacity(&mut cx).is_pending());
        drop(large);
        assert!(woken.0.load(Ordering::Acquire));
        assert!(backlog.poll_capacity(&mut cx).is_ready());
    }

    #[test]
    fn many_small_messages_are_much_as_well() {
        let backlog = Arc::new(Backlog::default());
        let permit: Vec<_> = (0..1000).map(|_| backlog.count(0)).collect();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(backlog.poll_capacity(&mut cx).is_pending());
        drop(permit);
        assert!(backlog.poll_capacity(&mut cx).is_ready());
    }
}

//! How much one WebSocket has said that its session, perhaps on another worker, has not yet heard. The pipe counts what it passes
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
const ENOUGH: usize = 64 * 1024;

/// What a message costs besides its own bytes.
const OVERHEAD: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    waker: AtomicWaker,
}

/// A message's part of the backlog, until it is heard or dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// Counts a message of `bytes` bytes.
    pub(crate) fn count(self: &Arc<Self>, bytes: usize) -> Counted {
        let bytes = bytes + OVERHEAD;
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Counted { backlog: self.clone(), bytes }
    }

    /// Ready when the session has heard enough for more.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Acquire) < ENOUGH
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.backlog.bytes.fetch_sub(self.bytes, Ordering::AcqRel) >= ENOUGH {
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
        assert!(backlog.poll_room(&mut cx).is_pending());
        drop(small);
        assert!(backlog.poll_room(&mut cx).is_pending());
        drop(large);
        assert!(woken.0.load(Ordering::Acquire));
        assert!(backlog.poll_room(&mut cx).is_ready());
    }

    #[test]
    fn many_small_messages_are_much_as_well() {
        let backlog = Arc::new(Backlog::default());
        let counted: Vec<_> = (0..1000).map(|_| backlog.count(0)).collect();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(backlog.poll_room(&mut cx).is_pending());
        drop(counted);
        assert!(backlog.poll_room(&mut cx).is_ready());
    }
}

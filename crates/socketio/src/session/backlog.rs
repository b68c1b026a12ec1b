//! The backlog of one WebSocket: messages that the pipe has read and the session, perhaps on another worker,
//! has not processed. The pipe stops reading while the backlog is full, so that further data waits in the
//! kernel.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// The pipe stops reading at this number of bytes. One more message may be in flight.
const MAX_BACKLOG: usize = 64 * 1024;

/// The cost of a message in bytes, besides its content.
const OVERHEAD: usize = 256;

/// The size of one pipe's backlog.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    waker: AtomicWaker,
}

/// The share of one message in the backlog. Its drop releases the share.
#[derive(Debug)]
pub(crate) struct BacklogPermit {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// Adds a message of `bytes` bytes.
    pub(crate) fn count(self: &Arc<Self>, bytes: usize) -> BacklogPermit {
        let bytes = bytes + OVERHEAD;
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        BacklogPermit { backlog: self.clone(), bytes }
    }

    /// Ready when the backlog has capacity for another message.
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
    fn a_full_backlog_blocks_the_pipe_until_messages_are_processed() {
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
    fn many_small_messages_fill_the_backlog() {
        let backlog = Arc::new(Backlog::default());
        let permit: Vec<_> = (0..1000).map(|_| backlog.count(0)).collect();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(backlog.poll_capacity(&mut cx).is_pending());
        drop(permit);
        assert!(backlog.poll_capacity(&mut cx).is_ready());
    }
}

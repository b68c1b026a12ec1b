//! What a connection and the door tell each other: that the client has closed its sending side, and that the connection becomes a
//! WebSocket. A client that only ends its requests by closing its sending side still gets its answer; a long-poll is answered at once,
//! because a client that is gone looks the same.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

/// One for each connection, with its requests as connection data. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hangup(Rc<State>);

#[derive(Debug, Default)]
struct State {
    is_noted: Cell<bool>,
    /// Whether an answer is on its way behind which no HTTP follows.
    is_upgraded: Cell<bool>,
    /// How many requests are being answered. Read on other threads, too.
    open: Arc<AtomicUsize>,
    /// Of the one request that is being answered.
    watcher: RefCell<Option<Waker>>,
}

impl Hangup {
    /// The client has closed its sending side.
    pub fn note(&self) {
        self.0.is_noted.set(true);
        if let Some(watcher) = self.0.watcher.take() {
            watcher.wake();
        }
    }

    /// A request was answered by 101: what comes behind it is no HTTP.
    pub(crate) fn upgrade(&self) {
        self.0.is_upgraded.set(true);
    }

    /// How many requests are being answered: from the call of the door until the answer's body is dropped. A connection that became a
    /// WebSocket stays at one at least.
    pub fn open(&self) -> Arc<AtomicUsize> {
        self.0.open.clone()
    }

    /// A request begins.
    pub(crate) fn begin(&self) -> Open {
        self.0.open.fetch_add(1, Ordering::AcqRel);
        Open(self.0.open.clone())
    }

    /// Whether what comes is no HTTP by now.
    pub fn is_upgraded(&self) -> bool {
        self.0.is_upgraded.get()
    }

    /// Whether the client has closed its sending side.
    pub(crate) fn is_noted(&self) -> bool {
        self.0.is_noted.get()
    }

    /// Resolves when the client has closed its sending side.
    pub(crate) async fn noted(&self) {
        poll_fn(|cx| {
            if self.0.is_noted.get() {
                return Poll::Ready(());
            }
            self.0.watcher.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// A request that is being answered, until this is dropped.
#[derive(Debug)]
pub(crate) struct Open(Arc<AtomicUsize>);

impl Open {
    /// The request never ends: its connection becomes a WebSocket.
    pub(crate) fn keep(self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn it_is_seen_before_and_after_it_is_noted() {
        let hangup = Hangup::default();
        let watcher = hangup.clone();
        let watching = actix_web::rt::spawn(async move { watcher.noted().await });
        tokio::task::yield_now().await;
        assert!(!watching.is_finished());
        hangup.note();
        watching.await.unwrap();
        hangup.noted().await;
    }
}

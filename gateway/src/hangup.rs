//! State that a connection shares with the middleware: the client has closed its sending side, and the connection
//! becomes a WebSocket. A client that half-closes its connection after a request still receives
//! the response. A long poll gets a response at once, because the client may be gone.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

/// The state of one connection, attached to its requests as connection data. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hangup(Rc<State>);

#[derive(Debug, Default)]
struct State {
    is_noted: Cell<bool>,
    /// Whether the connection switches protocols: no HTTP follows the current response.
    is_upgraded: Cell<bool>,
    /// The waker of the request that waits in [`Hangup::noted`].
    watcher: RefCell<Option<Waker>>,
}

impl Hangup {
    /// Records that the client has closed its sending side.
    pub fn note(&self) {
        self.0.is_noted.set(true);
        if let Some(watcher) = self.0.watcher.take() {
            watcher.wake();
        }
    }

    /// Records that a request got a 101 response: no HTTP follows it.
    pub(crate) fn upgrade(&self) {
        self.0.is_upgraded.set(true);
    }

    /// Whether the connection has switched protocols: received bytes are not HTTP.
    pub fn is_upgraded(&self) -> bool {
        self.0.is_upgraded.get()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn a_hangup_wakes_earlier_and_later_waiters() {
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

//! Backpressure for one sender among many: a sender waits until the clients that lag because of its own
//! events have caught up. Other senders do not wait for them. [`crate::Emit`] contains the token; the shards
//! hold it until the clients have caught up.

use tokio::sync::mpsc;

/// Marks the events of one sender. Clones are the same token.
#[derive(Debug, Clone)]
pub struct BackpressureToken(mpsc::Sender<()>);

/// The sender's side of a [`BackpressureToken`].
#[derive(Debug)]
pub struct BackpressureWait(mpsc::Receiver<()>);

impl BackpressureToken {
    /// A token, and the future side on which its sender waits.
    pub fn new() -> (Self, BackpressureWait) {
        let (token, wait) = mpsc::channel(1);
        (Self(token), BackpressureWait(wait))
    }

    /// Whether both are clones of the same token.
    pub fn is(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl BackpressureWait {
    /// Resolves when every clone of the token is dropped: all marked events are queued, and the clients that
    /// lagged because of them have caught up or were waited for long enough.
    pub async fn done(mut self) {
        while self.0.recv().await.is_some() {}
    }
}

//! Tells one sender among many when its own events have arrived, so that it waits for slow clients of its own and the others do
//! not. TransportModel by [`crate::Emit`], kept by the shards until the clients have caught up.

use tokio::sync::mpsc;

/// Marks the broadcasts of one sender. Clones are the same mark.
#[derive(Debug, Clone)]
pub struct BackpressureToken(mpsc::Sender<()>);

/// The sender's side of a [`BackpressureToken`].
#[derive(Debug)]
pub struct BackpressureWait(mpsc::Receiver<()>);

impl BackpressureToken {
    /// A mark, and what its sender waits for.
    pub fn new() -> (Self, BackpressureWait) {
        let (mark, paced) = mpsc::channel(1);
        (Self(mark), BackpressureWait(paced))
    }

    /// Whether both are the same mark.
    pub fn is(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl BackpressureWait {
    /// Resolves when every clone of the mark is dropped: all marked broadcasts are on their way, and clients that fell behind
    /// with them have caught up, or were waited for long enough.
    pub async fn done(mut self) {
        while self.0.recv().await.is_some() {}
    }
}

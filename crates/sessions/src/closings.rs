//! The channel by which a store of sessions reports closings to its watchers in this process. Written by the backends, read through
//! [`crate::Sessions::closings`].
//!
//! A watcher may miss closings: when it lags, and while the backend does not receive the closings of other processes. Both are reported
//! in the same way, in the order of the closings.

use tokio::sync::broadcast;

use crate::Closing;

/// The sender of a store's closings. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClosingSender(broadcast::Sender<Notice>);

/// A watcher of closings.
#[derive(Debug)]
pub struct Closings(broadcast::Receiver<Notice>);

/// Why [`Closings::recv`] returned no closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// Closings may have been missed: the watcher lagged, or the backend's subscription was interrupted. The watcher must check its
    /// sessions with [`crate::Sessions::find`], and can go on receiving.
    #[error("closings may have been missed")]
    Missed,
    /// The store was dropped.
    #[error("the store of sessions was dropped")]
    Closed,
}

#[derive(Debug, Clone)]
enum Notice {
    Closing(Closing),
    Missed,
}

impl ClosingSender {
    /// A channel without watchers. A watcher that lags by more than `capacity` closings misses the oldest.
    pub fn new(capacity: usize) -> Self {
        Self(broadcast::channel(capacity).0)
    }

    /// Reports a closing to all watchers.
    pub fn send(&self, closing: Closing) {
        // `send` fails only when there is no watcher.
        _ = self.0.send(Notice::Closing(closing));
    }

    /// Reports to all watchers that closings may have been missed.
    pub fn report_missed(&self) {
        _ = self.0.send(Notice::Missed);
    }

    /// A new watcher.
    pub fn subscribe(&self) -> Closings {
        Closings(self.0.subscribe())
    }
}

impl Closings {
    /// The next closing. Cancellation loses no closing.
    ///
    /// # Errors
    /// When closings may have been missed, or the store was dropped.
    pub async fn recv(&mut self) -> Result<Closing, RecvError> {
        match self.0.recv().await {
            Ok(Notice::Closing(closing)) => Ok(closing),
            Ok(Notice::Missed) | Err(broadcast::error::RecvError::Lagged(_)) => Err(RecvError::Missed),
            Err(broadcast::error::RecvError::Closed) => Err(RecvError::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, SessionId};

    #[tokio::test]
    async fn missed_closings_are_reported_in_order() {
        let closing = |n: u32| {
            let id: SessionId = format!("{n:064x}").parse().unwrap();
            Closing { id, cause: Cause::Ended }
        };
        let (one, two, three) = (closing(1), closing(2), closing(3));
        let missed = || Err(RecvError::Missed);
        // What is sent to a channel of two notices (`None`: a report), and what a watcher receives.
        let cases = [
            (vec![Some(&one), None, Some(&two)], vec![missed(), missed(), Ok(two.clone())]),
            (vec![None, Some(&one)], vec![missed(), Ok(one.clone())]),
            (vec![Some(&one), None], vec![Ok(one.clone()), missed()]),
            (vec![Some(&one), Some(&two), Some(&three)], vec![missed(), Ok(two.clone()), Ok(three.clone())]),
            (vec![None, Some(&one), Some(&two)], vec![missed(), Ok(one.clone()), Ok(two.clone())]),
        ];
        for (sent, received) in cases {
            let sender = ClosingSender::new(2);
            let mut closings = sender.subscribe();
            for notice in &sent {
                match notice {
                    Some(closing) => sender.send((*closing).clone()),
                    None => sender.report_missed(),
                }
            }
            drop(sender);
            for expected in received {
                assert_eq!(closings.recv().await, expected, "{sent:?}");
            }
            assert_eq!(closings.recv().await, Err(RecvError::Closed), "{sent:?}");
        }
    }
}

//! Closing a connection after all its acks are sent. Used by [`super::LocalSockets`] and applications.

use std::time::Duration;

use super::Socket;
use crate::close::CloseReason;

/// The longest time that a close waits for acks.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

impl Socket {
    /// Waits until every ack that the client has requested is sent.
    pub async fn acks_sent(&self) {
        while self.0.key.get().is_some() && self.unsent_acks() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether messages of the client are ignored because its connection is about to be closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.connection.ignores_input()
    }

    /// Ignores further messages of the client, waits until every ack that it has requested is sent, at most
    /// [`ACK_TIMEOUT`], and closes the connection.
    pub(crate) fn close_after_acks(&self, reason: CloseReason) -> impl Future<Output = ()> + use<> {
        let socket = self.clone();
        socket.0.connection.ignore_input();
        async move {
            let _ = tokio::time::timeout(ACK_TIMEOUT, socket.acks_sent()).await;
            socket.close(reason);
        }
    }
}

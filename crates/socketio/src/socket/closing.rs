//! The end of a connection that the server wants, with every ack given before it. Called by [`super::LocalSockets`] and applications.

use std::time::Duration;

use super::Socket;
use crate::close::CloseReason;

/// How long a client that is to be closed waits for its acks at most.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

impl Socket {
    /// Waits until every ack that the client has asked for was given.
    pub async fn acks_sent(&self) {
        while self.0.key.get().is_some() && self.unsent_acks() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether what the client sends is ignored because its connection is about to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.connection.ignores_input()
    }

    /// Takes nothing more from the client, waits until it has every ack it has asked for, [`ACK_TIMEOUT`] at most, and ends the
    /// connection.
    pub(crate) fn close_after_acks(&self, reason: CloseReason) -> impl Future<Output = ()> + use<> {
        let socket = self.clone();
        socket.0.connection.ignore_input();
        async move {
            let _ = tokio::time::timeout(ACK_TIMEOUT, socket.acks_sent()).await;
            socket.close(reason);
        }
    }
}

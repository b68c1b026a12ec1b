//! The end of a connection that the server wants, with every ack given before it. Called by [`super::Local`] and applications.

use std::time::Duration;

use super::Socket;
use crate::close::CloseReason;

/// How long a client that is to be closed waits for its acks at most.
const FAREWELL: Duration = Duration::from_secs(5);

impl Socket {
    /// Waits until every ack that the client has asked for was given.
    pub async fn acks_given(&self) {
        while self.0.key.get().is_some() && self.open_acks() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether what the client sends is ignored because its connection is about to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.link.is_deaf()
    }

    /// Takes nothing more from the client, waits until it has every ack it has asked for, [`FAREWELL`] at most, and ends the
    /// connection.
    pub(crate) fn close_when_answered(&self, reason: CloseReason) -> impl Future<Output = ()> + use<> {
        let socket = self.clone();
        socket.0.link.stop_listening();
        async move {
            let _ = tokio::time::timeout(FAREWELL, socket.acks_given()).await;
            socket.close(reason);
        }
    }
}

//! Events of the server that request an ack. Each pending ack is registered under its id until the client
//! answers, leaves, or the timeout elapses.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::Socket;
use crate::{
    Encoded,
    ack::{AckError, Response},
    packet,
};

impl Socket {
    /// Sends an event and waits for the client's ack. `args` must serialise to an array.
    ///
    /// # Errors
    /// See [`AckError`].
    pub async fn emit_with_ack(
        &self,
        name: &str,
        args: &impl Serialize,
        timeout: Duration,
    ) -> Result<Response, AckError> {
        self.emit_binary_with_ack(name, args, &[], timeout).await
    }

    /// Sends an event with binary arguments and waits for the client's ack. `args` refers to the attachments
    /// by `{"_placeholder":true,"num":N}`.
    ///
    /// # Errors
    /// See [`AckError`].
    pub async fn emit_binary_with_ack(
        &self,
        name: &str,
        args: &impl Serialize,
        attachments: &[Bytes],
        timeout: Duration,
    ) -> Result<Response, AckError> {
        let id = self.0.next_ack.get();
        let text = packet::event_text(self.namespace(), Some(id), name, args, attachments.len(), None);
        let text = text.map_err(|_| AckError::Arguments)?;
        let response = self.register_ack(id)?;
        self.send(&Encoded::with_attachments(&text, attachments));
        let response = tokio::time::timeout(timeout, response).await;
        self.0.pending_acks.borrow_mut().remove(&id);
        response.map_err(|_| AckError::Timeout)?.map_err(|_| AckError::Closed)
    }

    fn register_ack(&self, id: u64) -> Result<oneshot::Receiver<Response>, AckError> {
        if self.0.key.get().is_none() {
            return Err(AckError::Closed);
        }
        let mut pending_acks = self.0.pending_acks.borrow_mut();
        if pending_acks.len() >= self.0.max_pending_acks {
            return Err(AckError::TooMany);
        }
        let (sender, receiver) = oneshot::channel();
        pending_acks.insert(id, sender);
        self.0.next_ack.set(id + 1);
        Ok(receiver)
    }

    /// An ack was received. An unknown id has no effect, because an ack may be late. Returns whether the ack
    /// was pending.
    pub(crate) fn receive_ack(&self, id: u64, args: Vec<Value>, attachments: Vec<Bytes>) -> bool {
        let pending = self.0.pending_acks.borrow_mut().remove(&id);
        // The receiver may be dropped already.
        pending.map(|pending| pending.send(Response { args, attachments })).is_some()
    }
}

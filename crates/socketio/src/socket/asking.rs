//! Events of ours that want an ack: each waits under its id until the client answers, leaves, or takes too long.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::Socket;
use crate::{
    Encoded,
    answer::{AckError, Answer},
    packet,
};

impl Socket {
    /// Sends an event and waits for the client's ack. `args` serialises to an array.
    ///
    /// # Errors
    /// See [`AckError`].
    pub async fn emit_with_ack(
        &self,
        name: &str,
        args: &impl Serialize,
        timeout: Duration,
    ) -> Result<Answer, AckError> {
        self.emit_binary_with_ack(name, args, &[], timeout).await
    }

    /// Sends an event with binary arguments, which `args` names by `{"_placeholder":true,"num":N}`, and waits for the client's
    /// ack.
    ///
    /// # Errors
    /// See [`AckError`].
    pub async fn emit_binary_with_ack(
        &self,
        name: &str,
        args: &impl Serialize,
        attachments: &[Bytes],
        timeout: Duration,
    ) -> Result<Answer, AckError> {
        let id = self.0.next_ack.get();
        let text = packet::event_text(self.namespace(), Some(id), name, args, attachments.len(), None);
        let text = text.map_err(|_| AckError::Arguments)?;
        let answer = self.await_ack(id)?;
        self.send(&Encoded::with_attachments(&text, attachments));
        let answer = tokio::time::timeout(timeout, answer).await;
        self.0.awaited.borrow_mut().remove(&id);
        answer.map_err(|_| AckError::Timeout)?.map_err(|_| AckError::Closed)
    }

    fn await_ack(&self, id: u64) -> Result<oneshot::Receiver<Answer>, AckError> {
        if self.0.key.get().is_none() {
            return Err(AckError::Closed);
        }
        let mut awaited = self.0.awaited.borrow_mut();
        if awaited.len() >= self.0.max_awaited {
            return Err(AckError::TooMany);
        }
        let (sender, receiver) = oneshot::channel();
        awaited.insert(id, sender);
        self.0.next_ack.set(id + 1);
        Ok(receiver)
    }

    /// The client answered an event of ours. An unknown id means nothing: the answer may be late. Answers whether it was known.
    pub(crate) fn answered(&self, id: u64, args: Vec<Value>, attachments: Vec<Bytes>) -> bool {
        let waiting = self.0.awaited.borrow_mut().remove(&id);
        // The one who asked may have stopped waiting.
        waiting.map(|waiting| waiting.send(Answer { args, attachments })).is_some()
    }
}

//! The ack of an event, whether the client requests one or not.

use serde::Serialize;

use crate::socket::Reply;

/// The ack of one event of a [`super::Router`]. Without effect if the client requests no ack. If it is dropped,
/// no ack is sent.
pub struct Ack(Option<Reply>);

/// The ack of an event whose handler is not called.
#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
    message: &'a str,
}

impl From<Option<Reply>> for Ack {
    fn from(reply: Option<Reply>) -> Self {
        Self(reply)
    }
}

impl Ack {
    /// Sends the ack. `args` must serialise to an array (a tuple does), as with [`Reply::send`].
    pub fn send(self, args: &impl Serialize) {
        if let Some(reply) = self.0 {
            reply.send(args);
        }
    }

    /// Whether the client requests an ack.
    pub fn is_requested(&self) -> bool {
        self.0.is_some()
    }

    /// The reply, for acks with binary arguments. `None` if the client requests no ack.
    pub fn into_reply(self) -> Option<Reply> {
        self.0
    }

    /// Answers an event whose handler is not called.
    pub(super) fn refuse(self, error: &str, message: &str) {
        self.send(&(Problem { error, message },));
    }
}

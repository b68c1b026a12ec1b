//! The answer to one event: given once if the client wants it, and nothing at all if it does not.

use serde::Serialize;
use socketio::Reply;

use crate::Error;

/// The way back to the client.
pub struct Ack(Option<Reply>);

/// `{ok:true}` and what comes with it.
#[derive(Serialize)]
struct Good<T> {
    ok: bool,
    #[serde(flatten)]
    with: T,
}

/// Nothing comes with it.
#[derive(Serialize)]
pub struct Done {}

impl Ack {
    /// For an event that came with `reply`.
    pub fn new(reply: Option<Reply>) -> Self {
        Self(reply)
    }

    /// Whether the client waits for it.
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// `{ok:true, ...}` or `{ok:false, code, message, retryAfter?}`.
    pub fn answer(self, answer: Result<impl Serialize, Error>) {
        match answer {
            Ok(with) => self.send(&Good { ok: true, with }),
            Err(error) => self.refuse(&error),
        }
    }

    /// `{ok:false, code, message, retryAfter?}`.
    pub fn refuse(self, error: &Error) {
        if matches!(error, Error::Store(_)) {
            tracing::warn!(%error, "an event was refused by the store");
        }
        metrics::counter!("godzilla_chat_refused_total", "status" => error.code().status().to_string())
            .increment(1);
        self.send(&error.refused());
    }

    fn send(self, answer: &impl Serialize) {
        if let Some(reply) = self.0 {
            reply.send(&(answer,));
        }
    }
}

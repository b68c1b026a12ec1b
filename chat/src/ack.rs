//! The acknowledgement of one event. It is sent once if the client requested it, and not at all otherwise.

use serde::Serialize;
use socketio::Reply;

use crate::Error;

/// The acknowledgement that an event's sender waits for, if it requested one.
pub struct Ack(Option<Reply>);

/// `{ok:true}` and the fields of `with`.
#[derive(Serialize)]
struct Success<T> {
    ok: bool,
    #[serde(flatten)]
    with: T,
}

impl Ack {
    /// The acknowledgement of an event that arrived with `reply`.
    pub fn new(reply: Option<Reply>) -> Self {
        Self(reply)
    }

    /// Whether the client waits for the acknowledgement.
    pub fn is_requested(&self) -> bool {
        self.0.is_some()
    }

    /// Sends `{ok:true, ...}` or `{ok:false, code, message, retryAfter?}`.
    pub fn answer(self, answer: Result<impl Serialize, Error>) {
        match answer {
            Ok(with) => self.send(&Success { ok: true, with }),
            Err(error) => self.refuse(&error),
        }
    }

    /// Sends `{ok:false, code, message, retryAfter?}`.
    pub fn refuse(self, error: &Error) {
        if error.is_of_store() {
            tracing::warn!(cause = error.cause(), %error, "event refused: the store failed");
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

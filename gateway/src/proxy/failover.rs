//! Tries the candidates for a request one after the other. Used for requests and for WebSocket handshakes.

use std::time::Duration;

use cluster::Backend;
use hyper::{Response, StatusCode};

use super::{Worker, outgoing::Outgoing};
use crate::error::Error;

/// The timeout of an attempt that another node can repeat.
const RETRY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The outcome of one attempt.
pub(super) enum Attempt<T> {
    /// No other candidate is tried.
    Final(Result<T, Error>),
    /// The next candidate is tried. After the last candidate, the error is the outcome.
    Failed(Error),
}

impl Worker {
    /// Records a 503 of a node, or no response, for the user of the request, whose next request goes to another node. A request
    /// that cannot be repeated ends with it. The 503 can concern only this user and room, so it does not count for other users.
    pub(super) fn note_refusal<T>(
        &self,
        outgoing: &Outgoing,
        backend: &Backend,
        outcome: &Result<Response<T>, Error>,
    ) {
        let is_failure = match outcome {
            Ok(response) => response.status() == StatusCode::SERVICE_UNAVAILABLE,
            Err(_) => true,
        };
        if let (true, Some(user)) = (is_failure, &outgoing.user) {
            self.shared.recent_failures.record_for(user, backend);
        }
    }

    /// The outcome of the first candidate whose outcome is final. `attempt` receives the candidate, its timeout, and whether
    /// the request cannot be repeated after it.
    pub(super) async fn first_final<T>(
        &self,
        outgoing: &Outgoing,
        candidates: impl IntoIterator<Item = Backend>,
        within: Duration,
        attempt: impl AsyncFn(&Backend, Duration, bool) -> Attempt<T>,
    ) -> Result<T, Error> {
        let mut candidates = candidates.into_iter().peekable();
        let mut outcome = Err(Error::Unavailable);
        while let Some(backend) = candidates.next() {
            // A repeatable request gets a short timeout while another candidate is left.
            let is_last = candidates.peek().is_none() || !outgoing.is_repeatable();
            let within = if is_last { within } else { within.min(RETRY_TIMEOUT) };
            match attempt(&backend, within, is_last).await {
                Attempt::Final(outcome) => return outcome,
                Attempt::Failed(error) => outcome = Err(error),
            }
            self.shared.recent_failures.record(&backend);
        }
        outcome
    }
}

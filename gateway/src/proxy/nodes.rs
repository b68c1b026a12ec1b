//! Selects the chat nodes of a request, and tries them one after the other. A node that cannot be reached is tried last for
//! a few seconds.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use actix_web::{HttpMessage, HttpRequest};
use cluster::{Backend, Node};
use hyper::{Response, StatusCode, body::Incoming};
use proto::Identity;
use tokio::time::timeout;

use super::{Shared, Upstreams, Worker, request::Outgoing, upstream::Failure};
use crate::error::Error;

/// The maximum number of nodes that are tried for one request.
const MAX_ATTEMPTS: usize = 3;

/// How long a node is tried last after a failed connection.
const FAILURE_AGE: Duration = Duration::from_secs(5);

/// The timeout of an attempt that another node can repeat.
const RETRY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long to wait for an unlisted node to appear in the table.
const NODE_LOOKUP_TIMEOUT: Duration = Duration::from_millis(400);

impl Worker {
    /// The node with this name. Another gateway may have discovered it earlier, so an unlisted node is looked up.
    pub(super) async fn node(&self, name: &str) -> Option<Backend> {
        let Upstreams { nodes, refresh, .. } = &self.shared.upstreams;
        if let Some(node) = nodes.borrow().get(name) {
            return Some(node.backend.clone());
        }
        refresh.notify_one();
        let mut nodes = nodes.clone();
        let listed = nodes.wait_for(|nodes| nodes.get(name).is_some());
        let nodes = timeout(NODE_LOOKUP_TIMEOUT, listed).await.ok()?.ok()?;
        nodes.get(name).map(|node| node.backend.clone())
    }

    /// Up to [`MAX_ATTEMPTS`] nodes, the preferred one first. The requests and sockets of a user always prefer the same
    /// node, so that its state and counts of this user are complete. Anonymous requests are distributed in turn.
    ///
    /// Only open nodes get a request that opens a session. Other requests also get the nodes that start or drain, after the
    /// open ones: a node that drains answers requests until it ends.
    pub(super) fn candidates(&self, request: &HttpRequest, opens_session: bool) -> Vec<Backend> {
        let nodes = self.shared.upstreams.nodes.borrow();
        let user = request.extensions().get::<Identity>().map(|identity| identity.username.key());
        let mut nodes: Vec<&Node> = match &user {
            Some(user) => nodes.preferred(user).map(|(_, node)| node).collect(),
            None => {
                let turn = self.shared.next_node.fetch_add(1, Ordering::Relaxed);
                nodes.in_turn(turn).map(|(_, node)| node).collect()
            }
        };
        nodes.retain(|node| node.is_open || !opens_session);
        let failures = self.shared.failures();
        let has_failed = |node: &Node| {
            failures.get(&node.backend).is_some_and(|failed_at| failed_at.elapsed() < FAILURE_AGE)
        };
        nodes.sort_by_key(|node| (has_failed(node), !node.is_open));
        nodes.into_iter().map(|node| node.backend.clone()).take(MAX_ATTEMPTS).collect()
    }

    /// The first response of a candidate to `attempt`, which receives the candidate and its timeout, and that candidate. A
    /// request that can be repeated is sent to the next candidate after every failure, others only when the candidate cannot
    /// have received them. A slow response to one client does not change the order of the nodes for others.
    pub(super) async fn first_response(
        &self,
        outgoing: &Outgoing,
        candidates: Vec<Backend>,
        within: Duration,
        attempt: impl AsyncFn(&Backend, Duration) -> Result<Response<Incoming>, Failure>,
    ) -> Result<(Response<Incoming>, Backend), Error> {
        let mut candidates = candidates.into_iter().peekable();
        let mut last_error = Error::Unavailable;
        while let Some(backend) = candidates.next() {
            let is_last = candidates.peek().is_none() || !outgoing.is_repeatable();
            let within = if is_last { within } else { within.min(RETRY_TIMEOUT) };
            let failure = match attempt(&backend, within).await {
                // A node that accepts no new sessions responds with 421 (RFC 9110 §15.5.20).
                Ok(response) if response.status() == StatusCode::MISDIRECTED_REQUEST => {
                    Failure::from(Error::Unavailable)
                }
                Ok(response) => return Ok((response, backend)),
                Err(failure) => failure,
            };
            if failure.is_disconnected {
                self.shared.record_failure(backend);
            }
            last_error = failure.error;
            if is_last && last_error != Error::Unavailable {
                break;
            }
        }
        Err(last_error)
    }
}

impl Shared {
    fn record_failure(&self, backend: Backend) {
        let mut failures = self.failures();
        failures.retain(|_, failed_at| failed_at.elapsed() < FAILURE_AGE);
        failures.insert(backend, Instant::now());
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<Backend, Instant>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Selects the chat node of a request. Called by [`super`].

use std::{sync::atomic::Ordering, time::Duration};

use actix_web::{HttpMessage, HttpRequest};
use proto::Identity;
use tokio::time::timeout;

use super::{MAX_ATTEMPTS, Upstreams, Worker, backend::Backend};

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
        let nodes = timeout(NODE_LOOKUP_TIMEOUT, nodes.wait_for(|nodes| nodes.get(name).is_some()))
            .await
            .ok()?
            .ok()?;
        nodes.get(name).map(|node| node.backend.clone())
    }

    /// Up to [`MAX_ATTEMPTS`] nodes, the preferred one first. The requests and sockets of a user always prefer the same
    /// node while it is live, so that its state and counts of this user are complete. Anonymous requests are distributed in
    /// turn.
    pub(super) fn candidates(&self, request: &HttpRequest) -> Vec<Backend> {
        let nodes = self.shared.upstreams.nodes.borrow();
        let mut order: Vec<Backend> = match request.extensions().get::<Identity>() {
            Some(identity) => nodes.preferred(&identity.username.key()).cloned().collect(),
            None => nodes.in_turn(self.shared.next_node.fetch_add(1, Ordering::Relaxed)).cloned().collect(),
        };
        self.shared.recent_failures.move_last(&mut order);
        let health = &self.shared.health;
        order.sort_by_key(|backend| health.is_unresponsive(backend) || health.faults.rejects(backend));
        order.truncate(MAX_ATTEMPTS);
        order
    }
}

//! Selects the chat node of a request. Called by [`super`].

use std::{sync::atomic::Ordering, time::Duration};

use actix_web::{HttpMessage, HttpRequest};
use cluster::{Backend, Node};
use proto::Identity;
use tokio::time::timeout;

use super::{MAX_ATTEMPTS, Upstreams, Worker, health::State};

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
    /// turn. Nodes that report that they are not ready are tried after the ready ones, and nodes that cannot be used are last.
    ///
    /// Only open nodes get a request that opens a session. Other requests get the nodes that start or drain as well, before
    /// the open ones that are not ready or cannot be used: a node that drains answers requests until it ends. It must have responded, because
    /// a node that starts accepts connections before it responds.
    pub(super) fn candidates(&self, request: &HttpRequest, opens_session: bool) -> Vec<Backend> {
        let nodes = self.shared.upstreams.nodes.borrow();
        let user = request.extensions().get::<Identity>().map(|identity| identity.username.key().to_string());
        let nodes: Vec<(&str, &Node)> = match &user {
            Some(user) => nodes.preferred(user).collect(),
            None => nodes.in_turn(self.shared.next_node.fetch_add(1, Ordering::Relaxed)).collect(),
        };
        let health = &self.shared.health;
        let rank = |name: &str, node: &Node| match (health.is_unusable(name, &node.backend), node.is_open) {
            (false, true) if health.reports.is_not_ready(&node.backend) => Some(2),
            (false, true) => Some(0),
            (false, false) => {
                let is_running = !opens_session && health.state(&node.backend) == State::Responds;
                is_running.then_some(1)
            }
            (true, true) => Some(3),
            (true, false) => None,
        };
        let failures = &self.shared.recent_failures;
        let candidate = |(name, node): (&str, &Node)| {
            let backend = node.backend.clone();
            Some((rank(name, node)?, failures.contains(user.as_deref(), &backend), backend))
        };
        let mut order: Vec<_> = nodes.into_iter().filter_map(candidate).collect();
        order.sort_by_key(|(rank, has_failed, _)| (*rank, *has_failed));
        order.into_iter().map(|(_, _, backend)| backend).take(MAX_ATTEMPTS).collect()
    }
}

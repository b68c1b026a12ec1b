//! Which node a request goes to. Called by [`super`].

use std::{sync::atomic::Ordering, time::Duration};

use actix_web::{HttpMessage, HttpRequest};
use proto::Identity;
use tokio::time::timeout;

use super::{TRIES, Upstreams, Worker, backend::Backend};

/// How long a node that nobody knows of is waited for.
const NEWS: Duration = Duration::from_millis(400);

impl Worker {
    /// The node of this name, which another gateway may know a moment before this one does.
    pub(super) async fn node(&self, name: &str) -> Option<Backend> {
        let Upstreams { nodes, look, .. } = &self.shared.upstreams;
        if let Some(node) = nodes.borrow().get(name) {
            return Some(node.backend.clone());
        }
        look.notify_one();
        let mut nodes = nodes.clone();
        let known = timeout(NEWS, nodes.wait_for(|nodes| nodes.get(name).is_some())).await.ok()?.ok()?;
        known.get(name).map(|node| node.backend.clone())
    }

    /// A few nodes, the one first that is best: for somebody's requests and sockets always the same while it lives, so that what it
    /// knows of them and counts of them is whole; for nobody's another one every time.
    pub(super) fn any_node(&self, request: &HttpRequest) -> Vec<Backend> {
        let nodes = self.shared.upstreams.nodes.borrow();
        let mut order: Vec<Backend> = match request.extensions().get::<Identity>() {
            Some(identity) => nodes.preferred(&identity.username.key()).cloned().collect(),
            None => nodes.in_turn(self.shared.turn.fetch_add(1, Ordering::Relaxed)).cloned().collect(),
        };
        self.shared.doubts.last(&mut order);
        let pulse = &self.shared.pulse;
        order.sort_by_key(|backend| pulse.is_silent(backend) || pulse.refusals.refuses(backend));
        order.truncate(TRIES);
        order
    }
}

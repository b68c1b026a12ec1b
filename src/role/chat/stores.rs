//! The stores of a chat node, which may be unavailable: opening them, and their readiness.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::chat::{Chat, Order, Redis, broker::Stream};
use cluster::NodeLease;
use remote::Location;
use runtime::Backoff;
use sessions::RedisSessions;

use super::Config;
use crate::{
    admin::{Probe, not_ready_unless},
    error::Error,
    role::harness::Process,
    storage::{self, SharedStores},
};

/// The waits between two attempts to open the stores.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// The stores.
pub(super) struct Stores {
    pub(super) shared: SharedStores,
    pub(super) sessions: Arc<RedisSessions>,
    pub(super) redis: Redis,
    at: Location,
}

/// Why gateways cannot find this node. Set when the lease has started.
pub(super) type NodeStatus = Arc<OnceLock<Box<dyn Fn() -> Option<String> + Send + Sync>>>;

impl Stores {
    pub(super) async fn new(config: &Config, at: Location) -> Result<Self, Error> {
        let uri = config.mongo.uri().map_err(Error::Config)?;
        let shared = storage::open_shared(&uri, &config.deployment.deployment).await?;
        let sessions = Arc::new(storage::redis::sessions(at.clone())?);
        Ok(Self { shared, sessions, redis: storage::redis::chat(at.clone())?, at })
    }

    /// Compares the stores and starts the lease of the node. `None` when the end of the process is requested before: a node of another
    /// deployment takes no name.
    pub(super) async fn lease(
        &self,
        node: &str,
        address: cluster::Backend,
        process: Process,
    ) -> Result<Option<NodeLease>, Error> {
        let redis = storage::redis::client(self.at.clone())?;
        tokio::select! {
            compared = storage::compare(&self.shared, &redis) => compared?,
            () = process.stop_requested() => {
                tracing::info!("stopped while waiting for the stores");
                return Ok(None);
            }
        }
        NodeLease::start(self.at.clone(), node, address, NodeLease::TTL).map(Some).map_err(Error::Config)
    }

    /// Waits until the node holds its lease and its stores are available. No work is done under a name that another node
    /// holds. `None` when the end of the process is requested before.
    pub(super) async fn prepared(&self, lease: &NodeLease, node: &str, process: Process) -> Option<Order> {
        let wait = async {
            lease.acquired().await;
            self.wait(node).await
        };
        tokio::select! {
            order = wait => Some(order),
            () = process.stop_requested() => {
                tracing::info!("stopped while waiting for the lease or the stores");
                None
            }
        }
    }

    /// Waits until the stores are available, and opens the event stream.
    async fn wait(&self, node: &str) -> Order {
        let (mut backoff, mut was_logged) = (BACKOFF, false);
        loop {
            let opened = async {
                self.shared.backend.prepare().await?;
                let (redis, node) = (self.redis.clone(), node.to_owned());
                let SharedStores { history, unpublished, changes, backend, .. } = self.shared.clone();
                let id = backend.id().await.map_err(|error| ::chat::Error::Store(error.to_string()))?;
                Stream::open(redis, node, history, unpublished, changes, &id).await
            };
            match opened.await {
                Ok(opened) => return Order::Stream(opened),
                Err(error) if was_logged => tracing::debug!(%error, "still waiting for the stores"),
                Err(error) => tracing::warn!(%error, "waiting for the stores"),
            }
            was_logged = true;
            backoff.wait().await;
        }
    }

    /// Probes of the stores and the lease, without which the node accepts no sockets and no messages.
    pub(super) fn probes(&self, node_status: NodeStatus) -> [(&'static str, Probe); 3] {
        let (backend, sessions, log) =
            (self.shared.backend.clone(), self.sessions.clone(), self.redis.clone());
        let name = backend.name();
        let store = move || {
            let backend = backend.clone();
            Box::pin(async move { backend.problem().await }) as _
        };
        let redis = move || {
            let (sessions, log) = (sessions.clone(), log.clone());
            Box::pin(async move {
                let not_ready_reason = sessions.not_ready_reason().await;
                if not_ready_reason.is_some() { not_ready_reason } else { log.problem().await }
            }) as _
        };
        let node = move || {
            let not_ready_reason = node_status
                .get()
                .map_or_else(|| not_ready_unless(false), |not_ready_reason| not_ready_reason());
            Box::pin(async move { not_ready_reason }) as _
        };
        [(name, Box::new(store)), ("Redis", Box::new(redis)), ("the table of nodes", Box::new(node))]
    }

    /// The probe of the event stream. Without it, events are delivered from the store, later, and clients get no offsets for recovery.
    pub(super) fn add_degrading(&self, process: &Process, chat: &Chat) {
        let chat = chat.clone();
        let follower = move || {
            let not_ready_reason = chat.broker_not_ready_reason();
            Box::pin(async move { not_ready_reason }) as _
        };
        process.add_degrading("the log", Box::new(follower));
    }
}

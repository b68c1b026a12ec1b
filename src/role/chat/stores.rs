//! The stores of a chat node, which may be unavailable: opening them, and their readiness.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::chat::{Order, Redis, broker::Stream};
use cluster::NodeLease;
use remote::Location;
use runtime::Backoff;
use sessions::RedisSessions;

use super::Config;
use crate::{
    admin::not_ready_unless,
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
    pub(super) async fn new(config: &Config) -> Result<Self, Error> {
        let at = config.cluster.location()?;
        let shared = config.mongo.open(&config.cluster).await?;
        let sessions = Arc::new(storage::redis::sessions(at.clone())?);
        Ok(Self { shared, sessions, redis: storage::redis::chat(at.clone())?, at })
    }

    /// Compares the stores and starts the lease of the node: a node of another deployment takes no name.
    pub(super) async fn lease(&self, node: &str, address: cluster::Backend) -> Result<NodeLease, Error> {
        storage::compare(&self.shared, &storage::redis::client(self.at.clone())?).await?;
        NodeLease::start(self.at.clone(), node, address, NodeLease::TTL).map_err(Error::Config)
    }

    /// Waits until the stores are available, and opens the event stream.
    pub(super) async fn wait(&self, node: &str) -> Order {
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

    /// Adds the checks of the stores and the lease, without which the node accepts no sockets and no messages.
    pub(super) fn add_probes(&self, process: &Process, node_status: NodeStatus) {
        process.add_store(&self.shared);
        let (sessions, log) = (self.sessions.clone(), self.redis.clone());
        process.add_probe("Redis", move || {
            let (sessions, log) = (sessions.clone(), log.clone());
            async move {
                let not_ready_reason = sessions.not_ready_reason().await;
                if not_ready_reason.is_some() { not_ready_reason } else { log.problem().await }
            }
        });
        process.add_probe("the table of nodes", move || {
            std::future::ready(node_status.get().map_or_else(|| not_ready_unless(false), |reason| reason()))
        });
    }
}

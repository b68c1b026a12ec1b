//! The stores of a chat node, which may be unavailable: opening them, and their readiness.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::chat::{Chat, Order, Redis, broker::Stream};
use actix_web::rt::time::sleep;
use cluster::{NodeLease, WaitingNode};
use remote::Location;
use runtime::Backoff;
use sessions::RedisSessions;

use super::Config;
use crate::{
    admin::{Opening, Probe, not_ready_unless},
    error::Error,
    role::harness::Process,
    storage::{self, Shared, SharedStores, StoreUrl, redis::Claim},
};

/// The waits between two attempts to open the stores.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// The interval of the notes of a node that waits for the claim. A note expires after 15 s.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The stores.
pub(super) struct Stores {
    pub(super) shared: SharedStores,
    pub(super) sessions: Arc<RedisSessions>,
    pub(super) redis: Redis,
    /// The claim of the stores, which all of them need.
    pub(super) claim: Claim,
    at: Location,
}

/// Why gateways cannot find this node. Set when the lease has started.
pub(super) type NodeStatus = Arc<OnceLock<Box<dyn Fn() -> Option<String> + Send + Sync>>>;

impl Stores {
    pub(super) async fn new(config: &Config, redis: Location, opening: &Opening) -> Result<Self, Error> {
        let url = StoreUrl::of_services(&config.mongo).map_err(Error::Config)?;
        let claim = Claim::new();
        let redis = redis.with_gate(claim.gate());
        let shared = Shared { deployment: &config.deployment.deployment, gate: claim.gate() };
        let shared = storage::open_shared(&url, shared, opening).await?;
        let sessions = Arc::new(storage::redis::sessions(redis.clone())?);
        Ok(Self { shared, sessions, redis: storage::redis::chat(redis.clone())?, claim, at: redis })
    }

    /// Claims the stores and starts the lease of the node, which is written while the claim is held. `None` when the end of the process is
    /// requested before the claim is acquired: a node of another deployment takes no name.
    pub(super) async fn lease(
        &self,
        node: &str,
        address: cluster::Backend,
        process: Process,
    ) -> Result<Option<NodeLease>, Error> {
        self.claim.start(&self.at, self.shared.identity.clone())?;
        let waiting = WaitingNode::new(&self.at, node).map_err(Error::Config)?;
        tokio::select! {
            () = self.claim.gate().opened() => {}
            never = self.report_claim(&waiting) => match never {},
            () = process.stop_requested() => {
                tracing::info!("stopped while waiting for the stores");
                return Ok(None);
            }
        }
        NodeLease::start(self.at.clone(), node, address, NodeLease::TTL).map(Some).map_err(Error::Config)
    }

    /// Reports why the claim is not held.
    async fn report_claim(&self, waiting: &WaitingNode) -> Infallible {
        let name = self.shared.health.name();
        loop {
            if let Some(cause) = self.claim.waits(name) {
                waiting.report(&cause).await;
            }
            sleep(REPORT_INTERVAL).await;
        }
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
        // The address was read before.
        let waiting = WaitingNode::new(&self.at, node).ok();
        loop {
            let opened = async {
                self.shared.health.prepare().await?;
                let (redis, node) = (self.redis.clone(), node.to_owned());
                let SharedStores { history, unpublished, changes, lineage, .. } = self.shared.clone();
                Stream::open(redis, node, history, unpublished, changes, &lineage.current().await?).await
            };
            match opened.await {
                Ok(opened) => return Order::Stream(opened),
                Err(error) => {
                    if let Some(waiting) = &waiting {
                        waiting.report(&error.to_string()).await;
                    }
                    match was_logged {
                        true => tracing::debug!(%error, "still waiting for the stores"),
                        false => tracing::warn!(%error, "waiting for the stores"),
                    }
                }
            }
            was_logged = true;
            backoff.wait().await;
        }
    }

    /// Probes of the stores and the lease, without which the node accepts no sockets and no messages.
    pub(super) fn probes(&self, node_status: NodeStatus) -> [(&'static str, Probe); 3] {
        let (health, sessions, log) = (self.shared.health.clone(), self.sessions.clone(), self.redis.clone());
        let name = health.name();
        let [of_store, of_redis, of_node] = std::array::from_fn(|_| self.claim.clone());
        let store = move || {
            let (health, claim) = (health.clone(), of_store.clone());
            Box::pin(async move {
                let mut not_ready_reason = health.users_not_ready_reason().await;
                // A closed gate refuses the creation of indexes.
                if not_ready_reason.is_none() && claim.gate().is_open() {
                    not_ready_reason = health.chat_not_ready_reason().await;
                }
                claim.database_not_ready_reason(not_ready_reason)
            }) as _
        };
        let redis = move || {
            let (sessions, log, claim) = (sessions.clone(), log.clone(), of_redis.clone());
            Box::pin(async move {
                let mut not_ready_reason = sessions.not_ready_reason().await;
                if not_ready_reason.is_none() {
                    not_ready_reason = log.not_ready_reason().await;
                }
                claim.redis_not_ready_reason(not_ready_reason)
            }) as _
        };
        let node = move || {
            let not_ready_reason = node_status
                .get()
                .map_or_else(|| not_ready_unless(false), |not_ready_reason| not_ready_reason())
                // The lease is not written without the claim, whose probe names the cause.
                .filter(|_| of_node.gate().is_open());
            Box::pin(async move { not_ready_reason }) as _
        };
        [(name, Box::new(store)), ("Redis", Box::new(redis)), ("the table of nodes", Box::new(node))]
    }

    /// Probes of the event stream, and of the writes to the store without which the node works. Without the stream, events are delivered
    /// from the store, later, and clients get no offsets for recovery. If the store then refuses the notes of such messages, too, no message can
    /// be acked, and the node is not ready.
    pub(super) fn add_degrading(&self, process: &Process, chat: &Chat) {
        let log = self.redis.clone();
        let redis = move || {
            let log = log.clone();
            Box::pin(async move {
                let not_ready_reason = log.broker_not_ready_reason().await?;
                Some(format!(
                    "{not_ready_reason}; messages and changes are delivered from MongoDB within 2 s"
                ))
            }) as _
        };
        let (stream, store) = (chat.clone(), self.shared.health.clone());
        let notes = move || {
            let is_needed = stream.broker_not_ready_reason().is_some();
            let reason = store.unpublished_not_ready_reason().filter(|_| is_needed);
            Box::pin(async move { reason }) as _
        };
        let store = self.shared.health.clone();
        let name = store.name();
        let writes = move || {
            let store = store.clone();
            Box::pin(async move { store.degradation().await }) as _
        };
        let chat = chat.clone();
        let follower = move || {
            let not_ready_reason = chat.broker_not_ready_reason();
            Box::pin(async move { not_ready_reason }) as _
        };
        process.add_probe(name, Box::new(notes));
        process.add_degrading(name, Box::new(writes));
        process.add_degrading("Redis", Box::new(redis));
        process.add_degrading("the log", Box::new(follower));
    }
}

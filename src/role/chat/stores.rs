//! The stores of a chat node, which may be unavailable: opening them, and their readiness.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::accounts::MongoUsers;
use ::chat::{Chat, MongoStore, Order, Redis, broker::Stream};
use remote::Location;
use runtime::Backoff;
use sessions::{RedisSessions, ages};

use crate::{
    admin::{Opening, Probe, not_ready_unless},
    config,
    error::Error,
    mongo::{self, Hosts},
    nodes::NodeLease,
    role::harness::Process,
};

/// The waits between two attempts to open the stores.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// The stores.
pub(super) struct Stores {
    pub(super) chat: MongoStore,
    pub(super) users: Arc<MongoUsers>,
    /// The servers of MongoDB.
    hosts: Hosts,
    pub(super) sessions: Arc<RedisSessions>,
    pub(super) redis: Redis,
}

/// Why gateways cannot find this node. Set when the lease has started.
pub(super) type NodeStatus = Arc<OnceLock<Box<dyn Fn() -> Option<String> + Send + Sync>>>;

/// Address of Redis, and the prefix of the keys.
///
/// # Errors
/// When the address is missing or not valid.
pub(super) fn location(config: &config::Chat) -> Result<Location, Error> {
    let url = config.redis.url().map_err(Error::Config)?;
    Ok(Location::new(url.reveal(), &config.deployment.deployment))
}

impl Stores {
    pub(super) async fn new(config: &config::Chat, opening: &Opening) -> Result<Self, Error> {
        let uri = config.mongo.uri().map_err(Error::Config)?;
        let redis = location(config)?;
        let refused = |error: &dyn std::fmt::Display| {
            Error::Config(format!("the address of Redis is refused: {error}"))
        };
        let store = mongo::store(&uri, &config.deployment.deployment, opening).await?;
        let sessions = RedisSessions::new(redis.clone(), ages::now).map_err(|error| refused(&error))?;
        Ok(Self {
            chat: MongoStore::new(&store),
            users: Arc::new(MongoUsers::new(&store)),
            hosts: Hosts::of(&uri),
            sessions: Arc::new(sessions),
            redis: Redis::new(redis).map_err(|error| refused(&error.public()))?,
        })
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
                self.chat.prepare().await?;
                let (redis, node, chat) = (self.redis.clone(), node.to_owned(), &self.chat);
                let (unpublished, changes, lineage) = (chat.unpublished(), chat.changes(), chat.lineage());
                Stream::open(redis, node, chat.history(), unpublished, changes, lineage).await
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
        let (chat, users, sessions) = (self.chat.clone(), self.users.clone(), self.sessions.clone());
        let log = self.redis.clone();
        let hosts = self.hosts.clone();
        let mongo = move || {
            let (chat, users, hosts) = (chat.clone(), users.clone(), hosts.clone());
            Box::pin(async move {
                let not_ready_reason = hosts.explained(users.not_ready_reason().await).await;
                if not_ready_reason.is_some() { not_ready_reason } else { chat.not_ready_reason().await }
            }) as _
        };
        let redis = move || {
            let (sessions, log) = (sessions.clone(), log.clone());
            Box::pin(async move {
                let not_ready_reason = sessions.not_ready_reason().await;
                if not_ready_reason.is_some() { not_ready_reason } else { log.not_ready_reason().await }
            }) as _
        };
        let node = move || {
            let not_ready_reason = node_status
                .get()
                .map_or_else(|| not_ready_unless(false), |not_ready_reason| not_ready_reason());
            Box::pin(async move { not_ready_reason }) as _
        };
        [("MongoDB", Box::new(mongo)), ("Redis", Box::new(redis)), ("the table of nodes", Box::new(node))]
    }

    /// Probes of the event stream, and of the writes to MongoDB without which the node works. Without the stream, events are delivered
    /// from MongoDB, later, and clients get no offsets for recovery. If then MongoDB refuses the notes of such messages, too, no message can
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
        let (stream, store) = (chat.clone(), self.chat.clone());
        let notes = move || {
            let is_needed = stream.broker_not_ready_reason().is_some();
            let reason = store.unpublished_not_ready_reason().filter(|_| is_needed);
            Box::pin(async move { reason }) as _
        };
        let store = self.chat.clone();
        let writes = move || {
            let store = store.clone();
            Box::pin(async move { store.degradation().await }) as _
        };
        let chat = chat.clone();
        let follower = move || {
            let not_ready_reason = chat.broker_not_ready_reason();
            Box::pin(async move { not_ready_reason }) as _
        };
        process.add_probe("MongoDB", Box::new(notes));
        process.add_degrading("MongoDB", Box::new(writes));
        process.add_degrading("Redis", Box::new(redis));
        process.add_degrading("the log", Box::new(follower));
    }
}

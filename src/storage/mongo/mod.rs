//! The backend MongoDB, for roles in many processes.

mod address;
mod connection;
mod examine;

use std::{sync::Arc, time::Duration};

use accounts::MongoUsers;
use async_trait::async_trait;
use chat::MongoStore;
use futures_util::FutureExt;
use remote::mongo::{CollectionSettings, Identity, Store};

use self::connection::Hosts;
use super::{Backend, DatabaseIdentity, Health, Shared, SharedStores, StoreUrl};
use crate::{admin::Opening, error::Error};

/// The row of the table of backends.
pub const BACKEND: Backend = Backend {
    schemes: &["mongodb", "mongodb+srv"],
    form: "mongodb://host/database?replicaSet=name",
    open_embedded: None,
    open_shared: Some(|url, shared, opening| open(url, shared, opening).boxed_local()),
    examine: |url, deployment| examine::examine(url, deployment).boxed_local(),
};

/// The collections as the roles use them.
struct MongoHealth {
    users: Arc<MongoUsers>,
    /// The servers of the address.
    hosts: Hosts,
    chat: MongoStore,
    /// The checks of the collections of accounts and of chat.
    users_settings: CollectionSettings,
    chat_settings: CollectionSettings,
}

/// The collections of accounts. Their documents do not expire.
const OF_USERS: [&str; 3] = ["users", "lineage", "stores"];

/// The collections of chat. Their documents do not expire.
const OF_CHAT: [&str; 6] = ["messages", "rooms", "changes", "untold", "lineage", "stores"];

/// The checks of the collections of accounts and of chat in `store`.
fn settings(store: &Store) -> [CollectionSettings; 2] {
    [CollectionSettings::new(store, &OF_USERS, &[]), CollectionSettings::new(store, &OF_CHAT, &[])]
}

async fn open(url: &StoreUrl, shared: Shared<'_>, opening: &Opening) -> Result<SharedStores, Error> {
    let mut store = connection::store(url, shared.deployment, opening).await?;
    store.gate = shared.gate.clone();
    Ok(stores(&store, Hosts::of(url)))
}

/// All collections of `store`, on the servers `hosts`.
fn stores(store: &Store, hosts: Hosts) -> SharedStores {
    let (users, chat) = (Arc::new(MongoUsers::new(store)), MongoStore::new(store));
    let [users_settings, chat_settings] = settings(store);
    SharedStores {
        users: users.clone(),
        history: chat.history(),
        directory: chat.directory(),
        changes: chat.changes(),
        unpublished: chat.unpublished(),
        lineage: chat.lineage(),
        identity: Arc::new(Identity::new(store)),
        health: Arc::new(MongoHealth { users, hosts, chat, users_settings, chat_settings }),
    }
}

#[async_trait]
impl DatabaseIdentity for Identity {
    fn name(&self) -> &str {
        Identity::name(self)
    }

    async fn id(&self) -> Result<String, String> {
        Identity::id(self).await
    }

    async fn hold(&self, redis: &str, last: Option<&str>, ttl: Duration) -> Option<String> {
        let held = Identity::hold(self, redis, last, ttl).await;
        held.inspect_err(
            |error| tracing::debug!(%error, "the lease on the database is not renewed; retrying"),
        )
        .ok()?
    }
}

#[async_trait]
impl Health for MongoHealth {
    fn name(&self) -> &'static str {
        "MongoDB"
    }

    async fn prepare(&self) -> Result<(), chat::Error> {
        // From the start on no message is stored in a collection that does not keep it.
        if let Some(problem) = self.chat_settings.problem().await {
            tracing::error!("messages are refused: MongoDB {problem}");
        }
        self.chat.prepare().await
    }

    async fn users_not_ready_reason(&self) -> Option<String> {
        let reason = self.hosts.explained(self.users.not_ready_reason().await).await;
        if reason.is_some() { reason } else { self.users_settings.problem().await }
    }

    async fn chat_not_ready_reason(&self) -> Option<String> {
        let reason = self.chat.not_ready_reason().await;
        if reason.is_some() { reason } else { self.chat_settings.problem().await }
    }

    async fn degradation(&self) -> Option<String> {
        self.chat.degradation().await
    }

    fn unpublished_not_ready_reason(&self) -> Option<String> {
        self.chat.unpublished_not_ready_reason()
    }
}

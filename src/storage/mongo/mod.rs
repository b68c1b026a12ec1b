//! The backend MongoDB, for roles in many processes.

mod address;
mod connection;
mod examine;

use std::{sync::Arc, time::Duration};

use accounts::MongoUsers;
use async_trait::async_trait;
use chat::{MongoStore, migration::Migration};
use futures_util::FutureExt;
use remote::{
    Deployment,
    mongo::{Identity, Store, TtlIndexes},
};
use sessions::MongoRevocations;

use self::connection::Hosts;
use super::{Backend, DatabaseIdentity, Health, Shared, SharedStores, StoreUrl};
use crate::{admin::Opening, error::Error};

/// The row of the table of backends.
pub const BACKEND: Backend = Backend {
    schemes: &["mongodb", "mongodb+srv"],
    form: "mongodb://host/database?replicaSet=name",
    open_embedded: None,
    open_shared: Some(|url, shared, opening| open(url, shared, opening).boxed_local()),
    migrate: Some(|url, deployment| open_migration(url, deployment).boxed_local()),
    examine: |url, deployment| examine::examine(url, deployment).boxed_local(),
};

/// The collections as the roles use them.
struct MongoHealth {
    users: Arc<MongoUsers>,
    /// The servers of the address.
    hosts: Hosts,
    chat: MongoStore,
    /// The collections without a TTL index, of users and of chat.
    users_ttl: TtlIndexes,
    chat_ttl: TtlIndexes,
}

/// The collections of accounts whose documents do not expire.
const OF_USERS: [&str; 1] = ["users"];

/// The collections of chat whose documents do not expire.
const OF_CHAT: [&str; 7] = ["messages", "rooms", "members", "changes", "schema", "untold", "lineage"];

async fn open(url: &StoreUrl, shared: Shared<'_>, opening: &Opening) -> Result<SharedStores, Error> {
    let mut store = connection::store(url, shared.deployment, opening).await?;
    store.fence = shared.fence.clone();
    Ok(stores(&store, Hosts::of(url)))
}

/// All collections of `store`, on the servers `hosts`.
fn stores(store: &Store, hosts: Hosts) -> SharedStores {
    let (users, chat) = (Arc::new(MongoUsers::new(store)), MongoStore::new(store));
    SharedStores {
        users: users.clone(),
        revocations: Arc::new(MongoRevocations::new(store)),
        history: chat.history(),
        directory: chat.directory(),
        changes: chat.changes(),
        unpublished: chat.unpublished(),
        lineage: chat.lineage(),
        identity: Arc::new(Identity::new(store)),
        health: Arc::new(MongoHealth {
            users,
            hosts,
            chat,
            users_ttl: TtlIndexes::new(store, &OF_USERS),
            chat_ttl: TtlIndexes::new(store, &OF_CHAT),
        }),
    }
}

async fn open_migration(url: &StoreUrl, deployment: &Deployment) -> Result<Arc<dyn Migration>, Error> {
    match connection::store_once(url, deployment).await {
        Ok(store) => Ok(MongoStore::new(&store).migration()),
        Err(connection::Failure::Address(error)) => Err(error),
        Err(connection::Failure::Dns(problem)) => Err(Error::Tool(format!("MongoDB {problem}"))),
    }
}

/// The id that the database at `url` has for `deployment`, or `None` in it before its creation. `None` when MongoDB does not answer.
pub async fn stored_id(url: &StoreUrl, deployment: &Deployment) -> Option<Option<String>> {
    let store = connection::store_once(url, deployment).await.ok()?;
    Identity::new(&store).stored().await.ok()
}

/// Why chat nodes of this release do not start on the rooms of `deployment`. `None` when they do, or MongoDB does not answer.
pub async fn refusal(url: &StoreUrl, deployment: &Deployment) -> Option<String> {
    let store = connection::store_once(url, deployment).await.ok()?;
    MongoStore::new(&store).refusal_without_writes().await.ok()?
}

#[async_trait]
impl DatabaseIdentity for Identity {
    fn name(&self) -> &str {
        Identity::name(self)
    }

    async fn id(&self) -> Result<String, String> {
        Identity::id(self).await.map_err(|error| error.description())
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

    async fn refusal(&self) -> Result<Option<String>, chat::Error> {
        self.chat.refusal().await
    }

    async fn prepare(&self) -> Result<(), chat::Error> {
        self.chat.prepare().await
    }

    async fn users_not_ready_reason(&self) -> Option<String> {
        let reason = self.hosts.explained(self.users.not_ready_reason().await).await;
        if reason.is_some() { reason } else { self.users_ttl.problem().await }
    }

    async fn registration_problem(&self) -> Option<String> {
        self.users.registration_problem().await
    }

    async fn chat_not_ready_reason(&self) -> Option<String> {
        let reason = self.chat.not_ready_reason().await;
        if reason.is_some() { reason } else { self.chat_ttl.problem().await }
    }

    async fn degradation(&self) -> Option<String> {
        self.chat.degradation().await
    }

    fn unpublished_not_ready_reason(&self) -> Option<String> {
        self.chat.unpublished_not_ready_reason()
    }
}

//! The backend MongoDB, for roles in many processes.

mod connection;
mod examine;

use std::sync::Arc;

use accounts::MongoUsers;
use async_trait::async_trait;
use chat::{MongoStore, migration::Migration};
use futures_util::FutureExt;
use remote::Deployment;
use sessions::MongoRevocations;

use self::connection::Hosts;
use super::{Backend, Health, SharedStores, StoreUrl};
use crate::{admin::Opening, error::Error};

/// The row of the table of backends.
pub const BACKEND: Backend = Backend {
    schemes: &["mongodb", "mongodb+srv"],
    form: "mongodb://host/database?replicaSet=name",
    open_embedded: None,
    open_shared: Some(|url, deployment, opening| open(url, deployment, opening).boxed_local()),
    migrate: Some(|url, deployment| open_migration(url, deployment).boxed_local()),
    examine: |url| examine::examine(url).boxed_local(),
};

/// The collections as the roles use them.
struct MongoHealth {
    users: Arc<MongoUsers>,
    /// The servers of the address.
    hosts: Hosts,
    chat: MongoStore,
}

async fn open(url: &StoreUrl, deployment: &Deployment, opening: &Opening) -> Result<SharedStores, Error> {
    let store = connection::store(url, deployment, opening).await?;
    let (users, chat) = (Arc::new(MongoUsers::new(&store)), MongoStore::new(&store));
    Ok(SharedStores {
        users: users.clone(),
        revocations: Arc::new(MongoRevocations::new(&store)),
        history: chat.history(),
        directory: chat.directory(),
        changes: chat.changes(),
        unpublished: chat.unpublished(),
        lineage: chat.lineage(),
        health: Arc::new(MongoHealth { users, hosts: Hosts::of(url), chat }),
    })
}

async fn open_migration(url: &StoreUrl, deployment: &Deployment) -> Result<Arc<dyn Migration>, Error> {
    match connection::store_once(url, deployment).await {
        Ok(store) => Ok(MongoStore::new(&store).migration()),
        Err(connection::Failure::Address(error)) => Err(error),
        Err(connection::Failure::Dns(problem)) => Err(Error::Tool(format!("MongoDB {problem}"))),
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
        self.hosts.explained(self.users.not_ready_reason().await).await
    }

    async fn registration_problem(&self) -> Option<String> {
        self.users.registration_problem().await
    }

    async fn chat_not_ready_reason(&self) -> Option<String> {
        self.chat.not_ready_reason().await
    }

    async fn degradation(&self) -> Option<String> {
        self.chat.degradation().await
    }

    fn unpublished_not_ready_reason(&self) -> Option<String> {
        self.chat.unpublished_not_ready_reason()
    }
}

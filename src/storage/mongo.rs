//! The backend MongoDB, for roles in many processes.

use std::sync::Arc;

use accounts::MongoUsers;
use async_trait::async_trait;
use chat::MongoStore;
use mongodb::bson::doc;
use remote::{
    Deployment,
    mongo::{Store, answered},
};

use super::shared::{SharedBackend, SharedStores};
use crate::{error::Error, secret::Address};

/// The collections as the roles use them.
struct Mongo {
    store: Store,
    chat: MongoStore,
}

/// Opens the stores. MongoDB may be unavailable, but DNS must name the hosts of a `mongodb+srv` address.
pub async fn open(uri: &Address, deployment: &Deployment) -> Result<SharedStores, Error> {
    let store = connect(uri, deployment).await?;
    let chat = MongoStore::new(&store);
    Ok(SharedStores {
        users: Arc::new(MongoUsers::new(&store)),
        history: chat.history(),
        directory: chat.directory(),
        changes: chat.changes(),
        unpublished: chat.unpublished(),
        backend: Arc::new(Mongo { store, chat }),
    })
}

/// The version of the server, for the doctor.
pub async fn version(uri: &Address) -> Result<String, Error> {
    let store = connect(uri, &Deployment::default()).await?;
    let asked = answered(store.database.run_command(doc! { "buildInfo": 1 })).await;
    let about = asked.map_err(|error| Error::Tool(error.to_string()))?;
    Ok(about.get_str("version").unwrap_or_default().to_owned())
}

async fn connect(uri: &Address, deployment: &Deployment) -> Result<Store, Error> {
    Store::new(uri.reveal(), deployment).await.map_err(|error| Error::Config(uri.refused(&error)))
}

#[async_trait]
impl SharedBackend for Mongo {
    fn name(&self) -> &'static str {
        "MongoDB"
    }

    async fn prepare(&self) -> Result<(), chat::Error> {
        self.chat.prepare().await
    }

    async fn id(&self) -> Result<String, Error> {
        self.store.id().await.map_err(|error| Error::Tool(error.to_string()))
    }

    async fn problem(&self) -> Option<String> {
        self.store.check().await.err().map(|error| error.to_string())
    }
}

//! The way to MongoDB for the roles that keep something there.

use std::time::Duration;

use mongodb::{Client, options::ClientOptions};
use remote::{Deployment, mongo::Store};

use crate::error::Error;

/// The database, where the address names none.
const DATABASE: &str = "godzilla";

/// How long choosing a server may take: a call waits for a new primary this long before it fails.
const SELECTION: Duration = Duration::from_secs(2);

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(2);

/// Connections to one server at most.
const CONNECTIONS: u32 = 64;

/// How often each server is asked how it is: a primary that froze is noticed by it.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The collections of `deployment` in the database that `uri` names. MongoDB need not be there yet.
///
/// # Errors
/// When the address is none; it is not repeated, because it may hold a password.
pub async fn store(uri: &str, deployment: &Deployment) -> Result<Store, Error> {
    let refused = "the value of --mongo-uri (GODZILLA_MONGO_URI) is refused: expected mongodb://host/database?replicaSet=name";
    let mut options = ClientOptions::parse(uri).await.map_err(|_| Error::Config(refused.to_owned()))?;
    options.app_name.get_or_insert_with(|| "godzilla".to_owned());
    options.server_selection_timeout.get_or_insert(SELECTION);
    options.connect_timeout.get_or_insert(CONNECT);
    options.heartbeat_freq.get_or_insert(HEARTBEAT);
    options.max_pool_size.get_or_insert(CONNECTIONS);
    let client = Client::with_options(options).map_err(|_| Error::Config(refused.to_owned()))?;
    let database = client.default_database().unwrap_or_else(|| client.database(DATABASE));
    Ok(Store { database, deployment: deployment.clone() })
}

//! The connection to MongoDB, for the roles that store data there.

use std::time::Duration;

use mongodb::{Client, options::ClientOptions};
use remote::{Deployment, mongo::Store};

use crate::error::Error;

/// The database when the address names no database.
const DATABASE: &str = "godzilla";

/// How long server selection may take. A call waits this long for a new primary before it fails.
const SELECTION: Duration = Duration::from_secs(2);

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(2);

/// Maximum number of connections to one server.
const CONNECTIONS: u32 = 64;

/// Interval of the server health checks, which detect a frozen primary.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The collections of `deployment` in the database that `uri` names. Does not connect: MongoDB may be unavailable.
///
/// # Errors
/// When the address is invalid. The error does not contain it, because it can contain a password.
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
    Ok(Store::new(database, deployment.clone()))
}

//! The connection to MongoDB, for the roles that store data there.
//!
//! The driver looks up the hosts of a `mongodb+srv` address in DNS before it makes a client. A role waits for DNS as it waits
//! for a server that does not answer: only an address that is not valid ends its start.

use std::{pin::pin, time::Duration};

use mongodb::{
    Client,
    error::ErrorKind,
    options::{ClientOptions, ConnectionString, HostInfo},
};
use remote::{Deployment, mongo::Store};
use runtime::Backoff;
use tokio::time::timeout;

use crate::{
    admin::{Opening, Waiting},
    error::Error,
};

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

/// How long a lookup in DNS may take before `/readyz` reports that DNS does not answer.
const SLOW_LOOKUP: Duration = Duration::from_secs(2);

/// Deadline of a lookup in DNS. The resolver tries several servers, each with a deadline of 5 s by default.
const LOOKUP: Duration = Duration::from_secs(30);

/// The waits between two lookups in DNS.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// The text for an invalid address. It does not contain the address, because it can contain a password.
const REFUSED: &str = "the value of --mongo-uri (GODZILLA_MONGO_URI) is refused: expected mongodb://host/database?replicaSet=name";

/// Why there is no client for an address.
pub enum Failure {
    /// The address is not valid.
    Address(Error),
    /// DNS gives no hosts for it now. A phrase that follows "MongoDB".
    Dns(String),
}

/// The collections of `deployment` in the database that `uri` names. Does not connect: MongoDB may be unavailable. Waits for
/// DNS without a limit: `/readyz` and the log name the cause.
///
/// # Errors
/// When the address is invalid. The error does not contain it, because it can contain a password.
pub async fn store(uri: &str, deployment: &Deployment, opening: &Opening) -> Result<Store, Error> {
    let (waiting, mut backoff) = (opening.wait_for("MongoDB"), BACKOFF);
    loop {
        match look_up(uri, deployment, Some(&waiting)).await {
            Ok(store) => return Ok(store),
            Err(Failure::Address(error)) => return Err(error),
            Err(Failure::Dns(problem)) => waiting.report(problem),
        }
        backoff.wait().await;
    }
}

/// Like [`store`], with one attempt.
///
/// # Errors
/// When the address is invalid, or DNS gives no hosts for it.
pub async fn store_once(uri: &str, deployment: &Deployment) -> Result<Store, Failure> {
    look_up(uri, deployment, None).await
}

async fn look_up(uri: &str, deployment: &Deployment, waiting: Option<&Waiting>) -> Result<Store, Failure> {
    let refused = || Failure::Address(Error::Config(REFUSED.to_owned()));
    let address = ConnectionString::parse(uri).map_err(|_| refused())?;
    let name = match &address.host_info {
        HostInfo::DnsRecord(name) => name.clone(),
        _ => String::new(),
    };
    let no_answer = || format!("cannot be found: DNS does not answer for {name}");
    let mut lookup = pin!(timeout(LOOKUP, ClientOptions::parse(uri)));
    let parsed = match timeout(SLOW_LOOKUP, &mut lookup).await {
        Ok(parsed) => parsed,
        Err(_) => {
            waiting.iter().for_each(|waiting| waiting.report(no_answer()));
            lookup.await
        }
    };
    let parsed = parsed.map_err(|_| Failure::Dns(no_answer()))?;
    let mut options = parsed.map_err(|error| match &*error.kind {
        ErrorKind::DnsResolve { message, .. } => Failure::Dns(problem(&name, message)),
        _ => refused(),
    })?;
    options.app_name.get_or_insert_with(|| "godzilla".to_owned());
    options.server_selection_timeout.get_or_insert(SELECTION);
    options.connect_timeout.get_or_insert(CONNECT);
    options.heartbeat_freq.get_or_insert(HEARTBEAT);
    options.max_pool_size.get_or_insert(CONNECTIONS);
    let client = Client::with_options(options).map_err(|_| refused())?;
    let database = client.default_database().unwrap_or_else(|| client.database(DATABASE));
    Ok(Store::new(database, deployment.clone()))
}

/// Why DNS gives no hosts for `name`, from the text of the driver, which has no other form.
fn problem(name: &str, message: &str) -> String {
    if message.contains("no records found") || message.contains("returned no records") {
        format!(
            "cannot be found: {name} has no SRV records in DNS: check DNS and the host of --mongo-uri (GODZILLA_MONGO_URI)"
        )
    } else if message.starts_with("SRV lookup") || message.starts_with("TXT ") {
        format!("cannot be found: its records in DNS are not valid: {message}")
    } else {
        format!("cannot be found: DNS does not answer for {name}")
    }
}

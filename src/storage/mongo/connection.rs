//! The connection to MongoDB, for the roles that store data there.
//!
//! The driver looks up the hosts of a `mongodb+srv` address in DNS before it makes a client. A role waits for DNS as it waits
//! for a server that does not answer: only an address that is not valid ends its start.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::join_all;
use mongodb::{
    Client,
    error::ErrorKind,
    options::{ClientOptions, ConnectionString, HostInfo, ServerAddress},
};
use remote::{Deployment, mongo::Store};
use runtime::Backoff;
use tokio::time::timeout;

use super::address;
use crate::{
    admin::{Opening, Waiting},
    error::Error,
    storage::StoreUrl,
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

/// The shortest of these times that an address can set.
const SHORTEST: Duration = Duration::from_millis(500);

/// How long a lookup in DNS may take before `/readyz` reports that DNS does not answer.
const SLOW_LOOKUP: Duration = Duration::from_secs(2);

/// Deadline of a lookup in DNS. The resolver tries several servers, each with a deadline of 5 s by default.
const LOOKUP: Duration = Duration::from_secs(30);

/// The waits between two lookups in DNS.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// The port of a server whose address has no port.
const PORT: u16 = 27_017;

/// The cause when a Redis has the address of MongoDB.
const REDIS: &str =
    "is another program: Redis responds at its address; correct the hosts and ports of its address";

/// The form of an address.
const FORM: &str = "expected mongodb://host/database?replicaSet=name";

/// The servers of an address.
#[derive(Debug, Clone)]
pub struct Hosts(Arc<[(String, u16)]>);

impl Hosts {
    /// The servers that `uri` names. Empty for an address whose servers DNS names.
    pub fn of(uri: &StoreUrl) -> Self {
        let parsed = ConnectionString::parse(uri.reveal()).map(|address| address.host_info);
        let hosts = match parsed {
            Ok(HostInfo::HostIdentifiers(hosts)) => hosts,
            _ => Vec::new(),
        };
        let tcp = |host| match host {
            ServerAddress::Tcp { host, port } => Some((host, port.unwrap_or(PORT))),
            _ => None,
        };
        Self(hosts.into_iter().filter_map(tcp).collect())
    }

    /// The cause `reason`, a phrase that follows "MongoDB", or that a Redis has its address.
    pub async fn explained(&self, reason: Option<String>) -> Option<String> {
        reason.as_ref()?;
        let redis = self.0.iter().map(|(host, port)| remote::swapped::is_redis(host, *port));
        let is_redis = join_all(redis).await.contains(&true);
        if is_redis { Some(REDIS.to_owned()) } else { reason }
    }
}

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
pub async fn store(uri: &StoreUrl, deployment: &Deployment, opening: &Opening) -> Result<Store, Error> {
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
pub async fn store_once(uri: &StoreUrl, deployment: &Deployment) -> Result<Store, Failure> {
    look_up(uri, deployment, None).await
}

async fn look_up(
    address: &StoreUrl,
    deployment: &Deployment,
    waiting: Option<&Waiting>,
) -> Result<Store, Failure> {
    let uri = address.reveal();
    let why = match address::fault(uri) {
        _ if remote::is_unencoded(uri) => remote::UNENCODED.to_owned(),
        Some(fault) => return Err(Failure::Address(Error::Config(address.refused(&fault)))),
        None => FORM.to_owned(),
    };
    let refused = || Failure::Address(Error::Config(address.refused(&why)));
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
    set_bounds(&mut options);
    let client = Client::with_options(options).map_err(|_| refused())?;
    let database = client.default_database().unwrap_or_else(|| client.database(DATABASE));
    Ok(Store::new(database, deployment.clone()))
}

/// Sets the options on which promises of the roles depend. Each collection has its own write concern, read concern and read preference; the
/// values of the address would apply to all other commands, such as the creation of a collection. Times of the address have effect
/// within bounds: a frozen primary is detected by them, and without a bound a call would end at its deadline without a cause.
fn set_bounds(options: &mut ClientOptions) {
    (options.write_concern, options.read_concern, options.selection_criteria) = (None, None, None);
    let bounded = |given: Option<Duration>, max: Duration| {
        // Zero means no timeout to the driver.
        given.filter(|given| !given.is_zero()).map_or(max, |given| given.clamp(SHORTEST, max))
    };
    options.server_selection_timeout = Some(bounded(options.server_selection_timeout, SELECTION));
    options.connect_timeout = Some(bounded(options.connect_timeout, CONNECT));
    options.heartbeat_freq = Some(bounded(options.heartbeat_freq, HEARTBEAT));
    options.max_pool_size.get_or_insert(CONNECTIONS);
    options.app_name.get_or_insert_with(|| "godzilla".to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn options_of_the_address_change_no_promise() {
        let (half, second, two) =
            (Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2));
        // The options, and the times for server selection, connections and health checks.
        let rows = [
            ("", two, two, second),
            ("w=1&journal=false&wtimeoutMS=1", two, two, second),
            ("w=5&readConcernLevel=linearizable", two, two, second),
            ("readConcernLevel=available&readPreference=primary", two, two, second),
            (
                "serverSelectionTimeoutMS=30000&connectTimeoutMS=300000&heartbeatFrequencyMS=60000",
                two,
                two,
                second,
            ),
            ("serverSelectionTimeoutMS=0&connectTimeoutMS=0&heartbeatFrequencyMS=500", two, two, half),
            ("serverSelectionTimeoutMS=1&connectTimeoutMS=1", half, half, second),
            (
                "serverSelectionTimeoutMS=1500&connectTimeoutMS=1000",
                Duration::from_millis(1_500),
                second,
                second,
            ),
        ];
        for (given, selection, connect, heartbeat) in rows {
            let uri = format!("mongodb://127.0.0.1:1/x?{given}");
            assert_eq!(address::fault(&uri), None, "{uri}");
            let mut options = ClientOptions::parse(&uri).await.expect("an address");
            set_bounds(&mut options);
            let times = (options.server_selection_timeout, options.connect_timeout, options.heartbeat_freq);
            assert_eq!(times, (Some(selection), Some(connect), Some(heartbeat)), "{uri}");
            let client = Client::with_options(options).expect("an address");
            let database = client.database("x");
            assert!(database.write_concern().is_none(), "{uri}: {:?}", database.write_concern());
            assert!(database.read_concern().is_none(), "{uri}: {:?}", database.read_concern());
            assert!(database.selection_criteria().is_none(), "{uri}");
        }
    }
}

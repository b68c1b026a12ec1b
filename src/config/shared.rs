//! Configuration that several split roles share: the stores and the key. Each role includes the parts that it needs.

use std::path::PathBuf;

use clap::Args;
use proto::signature::Key;
use remote::Location;

use crate::{
    error::Error,
    secret::{self, Address},
    storage::{self, SharedStores},
};

/// Address of MongoDB.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Stores")]
pub struct Mongo {
    /// MongoDB, a replica set, such as mongodb://user:password@host/godzilla?replicaSet=rs0
    #[arg(long, env = "GODZILLA_MONGO_URI", value_name = "URI")]
    pub mongo_uri: Option<Address>,
    /// File with the address of MongoDB, for one that holds a password
    #[arg(long, env = "GODZILLA_MONGO_URI_FILE", value_name = "FILE", conflicts_with = "mongo_uri")]
    pub mongo_uri_file: Option<PathBuf>,
}

/// What the roles of a deployment share, except presence.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Stores")]
pub struct Cluster {
    /// Redis, with appendonly yes and appendfsync always, such as redis://:password@host:6379/0
    #[arg(long, env = "GODZILLA_REDIS_URL", value_name = "URL")]
    pub redis_url: Option<Address>,
    /// File with the address of Redis, for one that holds a password
    #[arg(long, env = "GODZILLA_REDIS_URL_FILE", value_name = "FILE", conflicts_with = "redis_url")]
    pub redis_url_file: Option<PathBuf>,
    /// Name of this deployment, the same for all its roles: deployments with different names can share one Redis and one MongoDB
    #[arg(
        long,
        env = "GODZILLA_DEPLOYMENT",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub deployment: remote::Deployment,
    /// File with the key by which roles verify each other, at least 32 random bytes; the same for all of them
    #[arg(long, env = "GODZILLA_SECRET_FILE", value_name = "FILE", help_heading = "Secrets")]
    pub secret_file: Option<PathBuf>,
}

impl Mongo {
    /// The address.
    ///
    /// # Errors
    /// When it is missing or cannot be read. The text names the flag that sets it.
    pub fn uri(&self) -> Result<Address, String> {
        let given = ("--mongo-uri (GODZILLA_MONGO_URI)", self.mongo_uri.as_ref());
        let file = ("--mongo-uri-file (GODZILLA_MONGO_URI_FILE)", self.mongo_uri_file.as_deref());
        secret::address(given, file)?.ok_or_else(|| missing(given.0, "where MongoDB is"))
    }

    /// The stores of a deployment in MongoDB, which may be unavailable.
    pub async fn open(&self, cluster: &Cluster) -> Result<SharedStores, Error> {
        let uri = self.uri().map_err(Error::Config)?;
        storage::open_shared(&uri, &cluster.deployment).await
    }
}

impl Cluster {
    /// Reads the key from the file.
    pub fn key(&self) -> Result<Key, Error> {
        let flag = "--secret-file (GODZILLA_SECRET_FILE)";
        let file = self.secret_file.as_ref();
        let file = file.ok_or_else(|| missing(flag, "a file with the key that all roles share"));
        file.and_then(|file| secret::key(file)).map_err(Error::Config)
    }

    /// The address of Redis, and the prefix of the keys.
    ///
    /// # Errors
    /// When the address is missing, cannot be read or is not valid. The text names the flag that sets it.
    pub fn location(&self) -> Result<Location, Error> {
        let given = ("--redis-url (GODZILLA_REDIS_URL)", self.redis_url.as_ref());
        let file = ("--redis-url-file (GODZILLA_REDIS_URL_FILE)", self.redis_url_file.as_deref());
        let url = secret::address(given, file).map_err(Error::Config)?;
        let url = url.ok_or_else(|| Error::Config(missing(given.0, "where Redis is")))?;
        remote::check_redis_url(url.reveal()).map_err(|error| Error::Config(url.refused(&error)))?;
        Ok(Location::new(url.reveal(), &self.deployment))
    }
}

/// The error of a role that needs a flag which is not set.
pub fn missing(flag: &str, what: &str) -> String {
    format!("this role needs {flag}: {what}")
}

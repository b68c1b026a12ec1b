//! The name of a deployment. Several deployments (staging and production, blue and green) can share one Redis and one MongoDB:
//! the names of all keys, channels and collections start with the name of their deployment.

use std::{str::FromStr, sync::Arc};

use deadpool_redis::redis::Client;

/// The name of a deployment: empty, or up to [`Deployment::MAX`] letters, digits and dashes. The empty name is the default. With it
/// the names of keys, channels and collections have no prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployment(Arc<str>);

/// The name contains a character that is not allowed, is too long or is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected up to 32 letters, digits and dashes, and not system: MongoDB reserves collections of that name"
)]
pub struct NotADeployment;

impl Deployment {
    /// The maximum length, in bytes. Collection names of MongoDB are limited too.
    pub const MAX: usize = 32;

    /// The name of a Redis key of this deployment.
    pub fn key(&self, key: &str) -> String {
        self.prefixed(key, ':')
    }

    /// The name of a MongoDB collection of this deployment.
    pub fn collection(&self, name: &str) -> String {
        self.prefixed(name, '.')
    }

    fn prefixed(&self, name: &str, separator: char) -> String {
        match &*self.0 {
            "" => name.to_owned(),
            deployment => format!("{deployment}{separator}{name}"),
        }
    }
}

impl FromStr for Deployment {
    type Err = NotADeployment;

    fn from_str(name: &str) -> Result<Self, NotADeployment> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.len() > Self::MAX || !name.bytes().all(is_allowed) || name == "system" {
            return Err(NotADeployment);
        }
        Ok(Self(name.into()))
    }
}

/// The address of a Redis, and the deployment whose keys are in it.
#[derive(Debug, Clone)]
pub struct Location {
    /// The address, such as `redis://127.0.0.1:6379/0`. It may contain a password.
    pub url: String,
    /// The deployment.
    pub deployment: Deployment,
}

impl Location {
    /// The keys of `deployment` in the Redis at `url`.
    pub fn new(url: &str, deployment: &Deployment) -> Self {
        Self { url: url.to_owned(), deployment: deployment.clone() }
    }

    /// The name of a key of the deployment.
    pub fn key(&self, key: &str) -> String {
        self.deployment.key(key)
    }

    /// The name of a channel of the deployment. Redis does not separate channels by database, so the name of a channel outside database 0
    /// contains the number of the database.
    pub fn channel(&self, name: &str) -> String {
        let client = Client::open(&*self.url);
        let db = client.map_or(0, |client| client.get_connection_info().redis_settings().db());
        let channel = self.key(name);
        if db == 0 { channel } else { format!("{channel}@{db}") }
    }
}

impl<T: AsRef<str> + ?Sized> From<&T> for Location {
    /// The default deployment at `url`.
    fn from(url: &T) -> Self {
        Self::new(url.as_ref(), &Deployment::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_start_with_the_deployment() {
        let blue: Deployment = "blue-2".parse().unwrap();
        assert_eq!(blue.key("session:x"), "blue-2:session:x");
        assert_eq!(blue.collection("users"), "blue-2.users");
        assert_eq!(Location::new("redis://host", &blue).channel("closed"), "blue-2:closed");
        assert_eq!(Location::new("redis://host/3", &blue).channel("closed"), "blue-2:closed@3");
    }

    #[test]
    fn the_default_deployment_changes_no_name() {
        let default: Deployment = "".parse().unwrap();
        assert_eq!(default, Deployment::default());
        assert_eq!([default.key("a"), default.collection("a")], ["a", "a"]);
        assert_eq!(Location::from("redis://host/1").channel("a"), "a@1");
    }

    #[test]
    fn other_characters_and_reserved_names_are_refused() {
        let long = "x".repeat(Deployment::MAX + 1);
        for name in ["a b", "a:b", "a.b", "$a", "a{b}", "ä", "system", "a/b", "a\0b", "*", &long] {
            assert_eq!(name.parse::<Deployment>(), Err(NotADeployment), "{name}");
        }
    }
}

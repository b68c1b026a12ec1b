//! A MongoDB and a Redis, both empty.

use crate::{Mongo, Redis};

/// The stores of a split system.
pub struct Stores {
    /// A replica set of one member.
    pub mongo: Mongo,
    /// A server with persistence.
    pub redis: Redis,
}

impl Stores {
    /// Starts both.
    pub async fn start() -> Self {
        Self { mongo: Mongo::start().await, redis: Redis::start() }
    }
}

//! A MongoDB and a Redis with nothing in them.

use crate::{Mongo, Redis};

/// See the module.
pub struct Stores {
    /// A replica set of one.
    pub mongo: Mongo,
    /// One that logs what it is told.
    pub redis: Redis,
}

impl Stores {
    /// Starts them.
    pub async fn start() -> Self {
        Self { mongo: Mongo::start().await, redis: Redis::start() }
    }
}

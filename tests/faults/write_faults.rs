//! Faults of Redis that prevent appends to the stream, and helpers of the tests with several nodes.

use std::time::Duration;

use testkit::{Redis, RedisFault};
use tokio::time::sleep;

use crate::support::{ConnectedUser, Request, Response, TestServer, TestUser, with_timeout};

/// Reasons for which Redis refuses new messages and serves reads.
#[derive(Debug, Clone, Copy)]
pub enum WriteFault {
    /// The roles have no permission to append.
    NoAppend,
    /// The roles have no permission to run scripts that write.
    NoWrite,
    /// Redis is a replica of a primary that does not respond.
    ReadOnly,
    /// The memory of Redis is full.
    Full,
}

impl WriteFault {
    /// All faults.
    pub const ALL: [Self; 4] = [Self::NoAppend, Self::NoWrite, Self::ReadOnly, Self::Full];

    /// Injects the fault.
    pub fn inject(self, redis: &Redis) {
        match self {
            Self::NoAppend => redis.execute("ACL SETUSER godzilla -xadd"),
            Self::NoWrite => RedisFault::Forbidden.inject(redis),
            Self::ReadOnly => RedisFault::Demoted.inject(redis),
            Self::Full => RedisFault::Full.inject(redis),
        }
    }

    /// Ends the fault.
    pub fn clear(self, redis: &Redis) {
        match self {
            Self::NoAppend => redis.execute("ACL SETUSER godzilla +xadd"),
            Self::NoWrite => RedisFault::Forbidden.clear(redis),
            Self::ReadOnly => RedisFault::Demoted.clear(redis),
            Self::Full => RedisFault::Full.clear(redis),
        }
    }

    /// Whether Redis refuses the first step of a logout.
    pub fn refuses_logouts(self) -> bool {
        matches!(self, Self::NoWrite | Self::ReadOnly)
    }
}

/// The Redis of a split system.
pub fn redis(server: &TestServer) -> &Redis {
    &server.system.stores.as_ref().expect("a split system").redis
}

/// The node of a user's session.
pub fn node_of(user: &ConnectedUser) -> String {
    user.session.rsplit_once('.').map(|(_, node)| node.to_owned()).expect("a session names its node")
}

/// Sends a request, and retries on 429.
pub async fn request_with_retry(user: &TestUser, request: impl Fn() -> Request, status: u16) -> Response {
    with_timeout("a request within the limit", async {
        loop {
            let answer = user.request(request()).await;
            if answer.status != 429 {
                return answer.expect(status);
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
}

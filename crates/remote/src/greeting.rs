//! The error reply that Redis sends to a connection that it does not accept, for example because `maxclients` is reached. Redis sends it
//! at once and closes the connection. A request that is under way then resets the connection, and the reply is lost. A connection that
//! sends nothing receives it. A MongoDB at the address closes connections, too; it is recognized by its answer to a request of its own.

use std::time::Duration;

use deadpool_redis::{
    PoolError,
    redis::{Client, ConnectionAddr, RedisError, make_extension_error},
};
use futures_util::future::join;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{Unanswered, cause::MONGODB, swapped};

/// The maximum time of a connection that waits for the reply. A Redis that accepts the connection sends nothing.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// The maximum length of the reply in bytes.
const LENGTH: u64 = 256;

/// Replaces the error of a broken connection by the reply that Redis sends to new connections. Returns other errors unchanged.
pub async fn explained(client: &Client, error: Unanswered) -> Unanswered {
    let is_broken = match &error {
        Unanswered::Redis(error) | Unanswered::Connection(PoolError::Backend(error)) => {
            error.is_io_error() && !error.is_connection_refusal()
        }
        _ => false,
    };
    if !is_broken {
        return error;
    }
    let (refusal, of_mongodb) = join(timeout(MAX_WAIT, refusal(client)), of_mongodb(client)).await;
    refusal
        .ok()
        .flatten()
        .or(of_mongodb)
        .map_or(error, |refusal| Unanswered::Connection(PoolError::Backend(refusal)))
}

/// The error of a MongoDB at the address.
async fn of_mongodb(client: &Client) -> Option<RedisError> {
    let ConnectionAddr::Tcp(host, port) = client.get_connection_info().addr() else { return None };
    let is_mongodb = swapped::is_mongodb(host, *port).await;
    is_mongodb.then(|| make_extension_error(MONGODB.to_owned(), Some("MongoDB responds".to_owned())))
}

async fn refusal(client: &Client) -> Option<RedisError> {
    let ConnectionAddr::Tcp(host, port) = client.get_connection_info().addr() else { return None };
    let stream = TcpStream::connect((&**host, *port)).await.ok()?;
    let mut reply = String::new();
    stream.take(LENGTH).read_to_string(&mut reply).await.ok()?;
    let (code, text) = reply.strip_prefix('-')?.trim_end().split_once(' ')?;
    Some(make_extension_error(code.to_owned(), Some(text.to_owned())))
}

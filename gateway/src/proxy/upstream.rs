//! HTTP/1.1 connections to the services, based on hyper's client. It follows no redirects and decompresses nothing. A
//! connection is closed instead of reused after any error or a cancelled request.

use std::{error::Error as StdError, io, iter::successors, time::Duration};

use bytes::Bytes;
use cluster::Backend;
use http_body_util::Full;
use hyper::{Response, StatusCode, body::Incoming};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

use super::request::Outgoing;
use crate::error::Error;

/// The connections of one worker to the services.
pub(super) struct Upstream {
    /// For requests. Connections are reused.
    requests: Client<HttpConnector, Full<Bytes>>,
    /// For WebSocket handshakes. Connections are never reused.
    handshakes: Client<HttpConnector, Full<Bytes>>,
}

/// Why a service gave no usable response.
pub(super) struct Failure {
    /// The refusal for the client.
    pub error: Error,
    /// Whether the service could not be connected to, or broke the connection before its response. Other requests would
    /// probably fail in the same way. A response that is late or invalid concerns one request only.
    pub is_disconnected: bool,
}

/// The connect timeout. Several unreachable services can be tried within 5 s. It is shorter than the timeout of every
/// attempt, so that an unreachable service is not taken for a slow one.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_400);

/// The maximum size of a response head, in bytes, and of the read-ahead of a body.
const MAX_HEAD: usize = 16 * 1024;

/// The maximum number of header lines of a response.
const MAX_HEADERS: usize = 64;

/// The idle timeout of a connection. It is shorter than the keep-alive of every service, so that no service closes a
/// connection while a request is sent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum number of idle connections per service and worker.
const IDLE_CONNECTIONS: usize = 64;

/// The TCP keepalive time. Probes start after this time without traffic, and the connection is closed after the same time
/// again.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// TCP_USER_TIMEOUT of WebSockets: a connection with data that the node has not acknowledged for this time is closed. The
/// client then reconnects. A pending send has reached its deadline of 5 s by then.
const UNACKNOWLEDGED: Duration = Duration::from_secs(4);

/// The kernel's receive buffer of a WebSocket, in bytes (the kernel doubles the value). Everything beyond waits at the
/// node, where it is counted.
const RECEIVE_BUFFER: usize = 32 * 1024;

impl Upstream {
    /// Clients without connections.
    pub(super) fn new() -> Self {
        let mut small = connector();
        small.set_recv_buffer_size(Some(RECEIVE_BUFFER));
        small.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self {
            requests: client().pool_max_idle_per_host(IDLE_CONNECTIONS).build(connector()),
            handshakes: client().pool_max_idle_per_host(0).retry_canceled_requests(false).build(small),
        }
    }

    /// The response of `backend`, whose head must arrive `within` this time.
    pub(super) async fn send(
        &self,
        outgoing: &Outgoing,
        backend: &Backend,
        within: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let mut may_retry = outgoing.is_repeatable();
        loop {
            let sent = timeout(within, self.requests.request(outgoing.to(backend)?)).await;
            match sent.map_err(|_| late(backend))? {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(Error::InvalidResponse.into());
                }
                Ok(response) => return Ok(response),
                // The service probably closed the connection before it read the request.
                Err(error) if may_retry && is_incomplete(&error) => may_retry = false,
                Err(error) => return Err(failure(backend, &error)),
            }
        }
    }

    /// The response of `backend` to a WebSocket handshake.
    pub(super) async fn handshake(
        &self,
        outgoing: &Outgoing,
        backend: &Backend,
        within: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let sent = timeout(within, self.handshakes.request(outgoing.to(backend)?)).await;
        sent.map_err(|_| late(backend))?.map_err(|error| failure(backend, &error))
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE / 4));
    connector.set_keepalive_retries(Some(4));
    connector
}

fn client() -> legacy::Builder {
    let mut client = Client::builder(TokioExecutor::new());
    client.http1_max_buf_size(MAX_HEAD).http1_max_headers(MAX_HEADERS);
    client.pool_idle_timeout(IDLE_TIMEOUT).pool_timer(TokioTimer::new());
    client
}

impl From<Error> for Failure {
    /// A failure of one request.
    fn from(error: Error) -> Self {
        Self { error, is_disconnected: false }
    }
}

fn causes(error: &legacy::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    successors(error.source(), |&error| error.source())
}

/// Whether the connection was closed before the end of the response head.
fn is_incomplete(error: &legacy::Error) -> bool {
    causes(error)
        .any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message))
}

/// Whether there was no connection, or it was closed or reset before the end of the response head.
fn is_disconnected(error: &legacy::Error) -> bool {
    error.is_connect() || is_incomplete(error) || causes(error).any(|cause| cause.is::<io::Error>())
}

fn failure(backend: &Backend, error: &legacy::Error) -> Failure {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::warn!(%backend, %error, cause, "no response from a service");
    let refusal = if error.is_connect() { Error::Unavailable } else { Error::InvalidResponse };
    Failure { error: refusal, is_disconnected: is_disconnected(error) }
}

fn late(backend: &Backend) -> Failure {
    tracing::warn!(%backend, "no response from a service in time");
    Error::UpstreamTimeout.into()
}

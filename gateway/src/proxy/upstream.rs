//! The connections to the services: hyper's client as a proxy needs it. It keeps to HTTP/1.1, follows nothing, unpacks nothing, and
//! a connection on which anything went wrong, or whose answer nobody waits for any more, is closed and not used again.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, body::Incoming};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

use super::{backend::Backend, outgoing::Outgoing};
use crate::error::Error;

/// The connections of one worker to the services.
pub(super) struct Upstream {
    /// Requests and answers. Connections are used again.
    requests: Client<HttpConnector, Full<Bytes>>,
    /// WebSocket handshakes, each on a connection of its own whatever comes of it.
    handshakes: Client<HttpConnector, Full<Bytes>>,
}

/// How long connecting may take. A few services that cannot be reached are tried within 5 s.
const CONNECT: Duration = Duration::from_millis(1_500);

/// The largest head of an answer, in bytes; also what may be read ahead of a body.
const HEAD: usize = 16 * 1024;

/// Header lines of an answer at most.
const LINES: usize = 64;

/// How long a connection waits for its next request: less than any service waits, so that it is not closed under one.
const IDLE: Duration = Duration::from_secs(3);

/// Idle connections to one service and worker at most.
const IDLE_CONNECTIONS: usize = 64;

/// A connection that is silent for so long is asked whether the other side is still there, and after as long again it is not.
const SILENCE: Duration = Duration::from_secs(10);

/// What a node has not acknowledged for so long on a WebSocket is lost, and the way to the node is cut. The client then reconnects; a
/// send that it waits for has had its 5 s.
const UNACKNOWLEDGED: Duration = Duration::from_secs(4);

/// Bytes that the kernel may hold of what a node sends to one WebSocket (it doubles the figure); what waits beyond that waits
/// at the node, where it is counted.
const RECEIVE_BUFFER: usize = 32 * 1024;

impl Upstream {
    /// No connections yet.
    pub(super) fn new() -> Self {
        let mut small = connector();
        small.set_recv_buffer_size(Some(RECEIVE_BUFFER));
        small.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self {
            requests: client().pool_max_idle_per_host(IDLE_CONNECTIONS).build(connector()),
            handshakes: client().pool_max_idle_per_host(0).retry_canceled_requests(false).build(small),
        }
    }

    /// The answer of `backend`, whose head must come `within` this time.
    pub(super) async fn ask(
        &self,
        outgoing: &Outgoing,
        backend: &Backend,
        within: Duration,
    ) -> Result<Response<Incoming>, Error> {
        let mut again = outgoing.is_repeatable();
        loop {
            let asked = timeout(within, self.requests.request(outgoing.to(backend)?)).await;
            match asked.map_err(|_| Error::Late)? {
                Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(Error::Garbled);
                }
                Ok(answer) => return Ok(answer),
                // The service closed the connection before it saw the request, or so it seems.
                Err(error) if again && is_cut_off(&error) => again = false,
                Err(error) => return Err(failed(backend, &error)),
            }
        }
    }

    /// What `backend` answers to a WebSocket handshake.
    pub(super) async fn shake_hands(
        &self,
        outgoing: &Outgoing,
        backend: &Backend,
        within: Duration,
    ) -> Result<Response<Incoming>, Error> {
        let asked = timeout(within, self.handshakes.request(outgoing.to(backend)?)).await;
        asked.map_err(|_| Error::Late)?.map_err(|error| failed(backend, &error))
    }
}

/// Whether nobody else need be asked. A node that takes no new sessions says so by 421 (RFC 9110 §15.5.20).
pub(super) fn is_settled<T>(outcome: &Result<Response<T>, Error>, is_last: bool) -> bool {
    match outcome {
        Ok(answer) => answer.status() != StatusCode::MISDIRECTED_REQUEST,
        // A process that ends, or is killed, cuts its connections in the middle of an answer.
        Err(Error::Late | Error::Garbled) => is_last,
        Err(error) => *error != Error::Away,
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(SILENCE));
    connector.set_keepalive_interval(Some(SILENCE / 4));
    connector.set_keepalive_retries(Some(4));
    connector
}

fn client() -> legacy::Builder {
    let mut client = Client::builder(TokioExecutor::new());
    client.http1_max_buf_size(HEAD).http1_max_headers(LINES);
    client.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new());
    client
}

fn is_cut_off(error: &legacy::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn failed(backend: &Backend, error: &legacy::Error) -> Error {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::debug!(%backend, %error, cause, "a service did not answer");
    if error.is_connect() { Error::Away } else { Error::Garbled }
}

//! The probe of a service: one request per attempt, over a connection that is reused. Its outcome is what the response
//! shows ([`Shown`]), or why there is no response ([`Failure`]). Used by [`super::health`].

use std::{fmt, io, time::SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use proto::{
    NodeReport, Timestamp,
    node_report::PATH,
    signature::{HEADER, Key, Target},
};
use tokio::net::TcpStream;

use super::{backend::Backend, faults::Fault};

/// The maximum size of a response, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// What a response shows. Probes are anonymous, so a service that accepts the signature responds with 404.
pub(super) struct Shown {
    /// The fault of the service.
    pub(super) fault: Option<Fault>,
    /// What a chat node reports of itself. Without fields in other responses.
    pub(super) report: NodeReport,
}

/// Why a service did not respond to a probe. Displayed as the cause that `/readyz` reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No process listens.
    Refused,
    /// No response in time: the process is stopped or overloaded, or packets are dropped.
    Timeout,
    /// The connection was closed before a response.
    Closed,
    /// The response is not HTTP, or is too large.
    Malformed,
    /// The host name has no address.
    Unresolved,
    /// Connecting failed with this error number of the system.
    Os(i32),
}

/// The connection of a probe between two attempts.
pub(super) type Connection = Option<SendRequest<Full<Bytes>>>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused: no process listens there"),
            Self::Timeout => f.write_str(
                "no answer in time: the process is stopped or overloaded, or a firewall or network policy drops the packets",
            ),
            Self::Closed => f.write_str("the connection is closed without a response"),
            Self::Malformed => f.write_str("the response is malformed: another program has this address"),
            Self::Unresolved => f.write_str("the host name has no address (DNS)"),
            Self::Os(error) => write!(f, "connecting fails: {}", io::Error::from_raw_os_error(*error)),
        }
    }
}

impl Failure {
    fn of_connect(error: &io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::ConnectionRefused, _) => Self::Refused,
            (io::ErrorKind::TimedOut, _) => Self::Timeout,
            (_, Some(number)) => Self::Os(number),
            // Only the lookup of a name fails without an error number.
            (_, None) => Self::Unresolved,
        }
    }

    fn of_request(error: &hyper::Error) -> Self {
        if error.is_parse() { Self::Malformed } else { Self::Closed }
    }
}

/// Sends a probe to `backend` over `connection`, or over a new one. The caller limits its time.
pub(super) async fn send(
    backend: &Backend,
    key: &Key,
    connection: &mut Connection,
) -> Result<Shown, Failure> {
    if connection.as_ref().is_none_or(SendRequest::is_closed) {
        let stream =
            TcpStream::connect(backend.address()).await.map_err(|error| Failure::of_connect(&error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(|error| Failure::of_request(&error))?;
        // The driver ends with the connection, which closes when its sender is dropped.
        tokio::spawn(driver);
        *connection = Some(sender);
    }
    let sender = connection.as_mut().ok_or(Failure::Closed)?;
    sender.ready().await.map_err(|error| Failure::of_request(&error))?;
    let target = Target { method: "GET", path: PATH };
    let request = Request::get(PATH)
        .header("host", backend.address())
        .header(HEADER, key.sign(None, target, Timestamp::now()))
        .body(Full::default());
    let request = request.map_err(|_| Failure::Malformed)?;
    let response = sender.send_request(request).await.map_err(|error| Failure::of_request(&error))?;
    let fault = Fault::of(&response, SystemTime::now());
    match Limited::new(response.into_body(), MAX_BODY).collect().await {
        // Only a service that accepts the signature reports.
        Ok(body) if fault.is_none_or(|fault| !fault.is_rejected()) => {
            Ok(Shown { fault, report: NodeReport::parse(&body.to_bytes()) })
        }
        Ok(_) => Ok(Shown { fault, report: NodeReport::default() }),
        Err(_) => Err(Failure::Malformed),
    }
}

//! The probe of a service: one request per attempt, over a connection that is reused. Its outcome is what the response
//! shows ([`Shown`]), or why there is no response ([`Failure`]). Used by [`super::health`].

use std::{fmt, io, time::SystemTime};

use bytes::Bytes;
use cluster::Backend;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use proto::{
    RoleReport, Timestamp,
    role_report::PATH,
    signature::{HEADER, Key, Target},
};
use tokio::net::TcpStream;

use super::{faults::Fault, roles::Role};

/// The maximum size of a response, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// What a response shows. Probes are anonymous, so a service that accepts the signature responds with 404.
pub(super) struct Shown {
    /// The fault of the service.
    pub(super) fault: Option<Fault>,
    /// What the service reports of itself. Without a role when it is another program. `None` when it rejects the signature.
    pub(super) report: Option<RoleReport>,
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

/// Sends a probe to `backend`, which should be of role `expected`, over `connection`, or over a new one. The caller limits its time.
/// A response without a role is followed by a second request, which only a service of the role refuses with 401.
pub(super) async fn send(
    backend: &Backend,
    expected: Role,
    key: &Key,
    connection: &mut Connection,
) -> Result<Shown, Failure> {
    if connection.as_ref().is_none_or(SendRequest::is_closed) {
        *connection = Some(connect(backend).await?);
    }
    let sender = connection.as_mut().ok_or(Failure::Closed)?;
    let response = request(sender, backend, key, PATH).await?;
    let fault = Fault::of(&response, SystemTime::now());
    let body = body_of(response).await?;
    if fault.is_some_and(Fault::is_rejected) {
        return Ok(Shown { fault, report: None });
    }
    let mut report = RoleReport::parse(&body);
    if report.role.is_none() {
        // Some programs close a connection after each response.
        let mut sender = connect(backend).await?;
        let response = request(&mut sender, backend, key, expected.private_path()).await?;
        let is_expected = response.status() == StatusCode::UNAUTHORIZED;
        body_of(response).await?;
        report.role = is_expected.then(|| expected.name().to_owned());
    }
    Ok(Shown { fault, report: Some(report) })
}

async fn connect(backend: &Backend) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(backend.address()).await.map_err(|error| Failure::of_connect(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, driver) = handshake.map_err(|error| Failure::of_request(&error))?;
    // The driver ends with the connection, which closes when its sender is dropped.
    tokio::spawn(driver);
    Ok(sender)
}

/// The response to an anonymous request for `path`.
async fn request(
    sender: &mut SendRequest<Full<Bytes>>,
    backend: &Backend,
    key: &Key,
    path: &str,
) -> Result<Response<Incoming>, Failure> {
    sender.ready().await.map_err(|error| Failure::of_request(&error))?;
    let target = Target { method: "GET", path };
    let request = Request::get(path)
        .header("host", backend.address())
        .header(HEADER, key.sign(None, target, Timestamp::now()))
        .body(Full::default());
    let request = request.map_err(|_| Failure::Malformed)?;
    sender.send_request(request).await.map_err(|error| Failure::of_request(&error))
}

/// The body of a response, at most [`MAX_BODY`] bytes.
async fn body_of(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    Ok(body.map_err(|_| Failure::Malformed)?.to_bytes())
}

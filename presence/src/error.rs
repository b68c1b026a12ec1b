//! Errors of the presence service and their gRPC status codes.

use tonic::Status;

/// An error of a call or of the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An invalid username or room name (INVALID_ARGUMENT).
    #[error(transparent)]
    Name(#[from] proto::NameError),
    /// An unexpected report, for example a stream that does not begin with a snapshot (INVALID_ARGUMENT).
    #[error("{0}")]
    Report(&'static str),
    /// A later stream of the same node replaced the stream, or its lease expired (ABORTED).
    #[error("a later stream replaced this one, or its lease expired")]
    Stale,
    /// The maximum number of users or of typing entries is reached (RESOURCE_EXHAUSTED).
    #[error("the roster is full")]
    Full,
    /// The service is stopping (UNAVAILABLE).
    #[error("the presence service is not available")]
    Unavailable,
    /// The listening socket failed.
    #[error("the presence socket failed: {0}")]
    Listen(#[from] std::io::Error),
    /// The gRPC server failed.
    #[error("the presence server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// The descriptors for reflection are invalid.
    #[error("grpc reflection failed to start: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Name(_) | Error::Report(_) => Self::invalid_argument(message),
            Error::Stale => Self::aborted(message),
            Error::Full => Self::resource_exhausted(message),
            Error::Unavailable => Self::unavailable(message),
            Error::Listen(_) | Error::Serve(_) | Error::Reflection(_) => Self::internal("internal error"),
        }
    }
}

//! Every way the presence service says no, and the gRPC status of each. Used by the whole crate.

use tonic::Status;

/// Why a call was refused or the service ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A username or room that breaks the rules (INVALID_ARGUMENT).
    #[error(transparent)]
    Name(#[from] proto::NameError),
    /// A node name that is empty, too long, not printable, or the reserved one (INVALID_ARGUMENT).
    #[error("a node name has 1 to 64 printable ascii characters and is not 'unary'")]
    Node,
    /// A report that does not fit: the first is not a snapshot, or a message is empty (INVALID_ARGUMENT).
    #[error("{0}")]
    Report(&'static str),
    /// The stream was replaced by a later one of the same node, or lost its lease (ABORTED).
    #[error("this stream no longer speaks for its node")]
    Stale,
    /// A bound on users or typing stamps is reached (RESOURCE_EXHAUSTED).
    #[error("the roster is full")]
    Full,
    /// The service is stopping or did not answer in time (UNAVAILABLE).
    #[error("the presence service is not available")]
    Unavailable,
    /// The listening socket cannot be used.
    #[error("the presence socket cannot be used: {0}")]
    Listen(#[from] std::io::Error),
    /// The gRPC server failed.
    #[error("the presence server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// The descriptors for reflection are broken.
    #[error("grpc reflection cannot be offered: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Name(_) | Error::Node | Error::Report(_) => Self::invalid_argument(message),
            Error::Stale => Self::aborted(message),
            Error::Full => Self::resource_exhausted(message),
            Error::Unavailable => Self::unavailable(message),
            Error::Listen(_) | Error::Serve(_) | Error::Reflection(_) => Self::internal("internal error"),
        }
    }
}

impl From<actix::MailboxError> for Error {
    fn from(_: actix::MailboxError) -> Self {
        Self::Unavailable
    }
}

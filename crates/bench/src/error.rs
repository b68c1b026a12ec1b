//! The error type of the scenarios.

use std::io;

/// Why a scenario could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not an IPv4 address and port.
    #[error("--url must be http://ADDRESS:PORT with an IPv4 address, not {0}")]
    Url(String),
    /// An operation of the network or the operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// The server sent an unexpected response.
    #[error("{what}: the server answered {answer}")]
    Response {
        /// The request.
        what: String,
        /// Status and body, or the packet.
        answer: String,
    },
    /// The server did not answer in time.
    #[error("{0}: no answer in time")]
    Timeout(&'static str),
}

/// Adds the name of an operation to its error.
pub trait Context<T> {
    /// Converts the operating system's error.
    fn context(self, what: &'static str) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what, source })
    }
}

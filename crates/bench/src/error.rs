//! What can go wrong before there is anything to measure. Made everywhere, shown by `main`.

use std::io;

/// Why a scenario could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the server is not one of the loopback network.
    #[error("--url must be http://ADDRESS:PORT with an IPv4 address, not {0}")]
    Url(String),
    /// The network or the operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The server answered something else than a scenario needs.
    #[error("{what}: the server answered {answer}")]
    Answer {
        /// What was asked.
        what: String,
        /// Status and body, or the packet.
        answer: String,
    },
    /// The server did not answer in time.
    #[error("{0}: no answer in time")]
    Late(&'static str),
}

/// Names what was tried when an operation of the system fails.
pub trait Tried<T> {
    /// Turns the system's error into ours.
    fn tried(self, what: &'static str) -> Result<T, Error>;
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what, source })
    }
}

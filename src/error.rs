//! Reasons why the program ends without success, as texts for the operator. Created by every module of the binary,
//! printed by `main`.

use std::{io, net::SocketAddr, path::PathBuf};

/// A reason to exit. No variant contains a configured value that can be a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an error: the requested help or version.
    #[error("{0}")]
    Help(String),
    /// The configuration is invalid. The text contains the key and the expected form.
    #[error("{0}")]
    Config(String),
    /// The process cannot listen on an address.
    #[error("cannot listen on {address}: {source}; choose another address with {flag}")]
    Listen {
        /// The flag that sets the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The data directory or a file in it cannot be used.
    #[error("cannot use the data in {path}: {reason}; --data-dir names another directory", path = .path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// The error of the store.
        reason: String,
    },
    /// A part failed while it started or ran.
    #[error("{part}: {reason}")]
    Part {
        /// The part.
        part: &'static str,
        /// Its error.
        reason: String,
    },
    /// An essential part has ended.
    #[error("{0} ended by itself; see the log for the reason")]
    Ended(String),
    /// The tool refuses to change existing data.
    #[error("{0}")]
    Refused(&'static str),
    /// The number of errors that the doctor found.
    #[error("errors in the configuration: {0}")]
    Findings(usize),
    /// A tool failed, or found errors.
    #[error("{0}")]
    Tool(String),
    /// The server is not ready. Reported by the health check.
    #[error("not ready: {0}")]
    NotReady(String),
}

impl Error {
    /// A failure of `part`, with its own text.
    pub fn part(part: &'static str, reason: impl ToString) -> Self {
        Self::Part { part, reason: reason.to_string() }
    }

    /// The exit status: 2 for an invalid command line or configuration, 1 for every other error.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Config(_)) { 2 } else { 1 }
    }
}

//! Why the program ends without having done its work: what a person at a terminal has to read. Made by every module of
//! the binary, shown by `main`.

use std::{io, net::SocketAddr, path::PathBuf};

/// A reason to exit. None of them ever shows a configured value that could be a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an error: the help or version that was asked for.
    #[error("{0}")]
    Help(String),
    /// The configuration is not acceptable: the key, and what is expected.
    #[error("{0}")]
    Config(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address with {flag}")]
    Listen {
        /// The flag that moves it.
        flag: &'static str,
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory or a file in it cannot be used.
    #[error("cannot use the data in {path}: {reason}; --data-dir names another directory", path = .path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// What the store said.
        reason: String,
    },
    /// A part failed while running or starting.
    #[error("{part}: {reason}")]
    Part {
        /// Which.
        part: &'static str,
        /// What it said.
        reason: String,
    },
    /// Limits of the system are too low, in words.
    #[error("{0}")]
    Limits(String),
    /// A part that the process cannot do without has ended.
    #[error("{0} ended by itself; the log says why")]
    Ended(String),
    /// The tool found what it must not touch.
    #[error("{0}")]
    Refused(&'static str),
    /// The doctor has found so many things that do not work.
    #[error("errors in the configuration: {0}")]
    Findings(usize),
    /// A tool did not do its work, or found something.
    #[error("{0}")]
    Tool(String),
    /// The server is not ready, says the health check.
    #[error("not ready: {0}")]
    NotReady(String),
}

impl Error {
    /// A failure of `part`, in its own words.
    pub fn part(part: &'static str, reason: impl ToString) -> Self {
        Self::Part { part, reason: reason.to_string() }
    }

    /// The exit status: 2 for a wrong command line or configuration, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Help(_) => 0,
            Self::Config(_) => 2,
            _ => 1,
        }
    }
}

//! The errors of the session stores. Returned by the backends; every caller fails closed.

/// A failed call. Whether the session exists is unknown: a caller must neither grant access nor report that the session ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed or did not respond in time.
    #[error("the session store is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operating system returned no random bytes.
    #[error("no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
}

impl Error {
    /// The HTTP status of a request that failed with this error.
    pub fn status(&self) -> u16 {
        503
    }
}

impl From<embedded::Error> for Error {
    fn from(error: embedded::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

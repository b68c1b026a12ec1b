//! Why a question about sessions has no answer. Made by the backends; every caller fails closed.

/// No answer: nobody is to be let in, and nobody is to be told that a session is gone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer, or not in time.
    #[error("the session store is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
}

impl Error {
    /// The HTTP status of a request that failed by this.
    pub fn status(&self) -> u16 {
        503
    }
}

impl From<embedded::Error> for Error {
    fn from(error: embedded::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

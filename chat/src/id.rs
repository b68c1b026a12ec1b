//! Random ids that are unique and cannot be guessed.

use crate::Error;

/// Returns 128 random bits as 32 hex digits.
///
/// # Errors
/// [`Error::Unavailable`] when the operating system returns no random bytes. The failure is counted.
pub fn new_id() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| {
        metrics::counter!("godzilla_chat_entropy_failures_total").increment(1);
        Error::no_entropy()
    })?;
    Ok(hex::encode(bytes))
}

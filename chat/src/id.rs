//! Ids that nobody can guess and no two things share.

use crate::Error;

/// 128 random bits, in hex.
///
/// # Errors
/// [`Error::Unavailable`], counted, when the operating system gives no random bytes.
pub fn new_id() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| {
        metrics::counter!("godzilla_chat_entropy_failures_total").increment(1);
        Error::no_entropy()
    })?;
    Ok(hex::encode(bytes))
}

//! bcrypt outside of the event loops: few passwords at once, and a bounded number that wait. A flood of logins occupies neither event
//! loops nor all cores.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{error::Elapsed, timeout},
};

use crate::{Error, Password};

/// The maximum time that a password waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Result of a password check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// The password matches.
    Match {
        /// A new hash, when the stored one has another cost than configured.
        renewed: Option<String>,
    },
    /// The password does not match.
    Mismatch,
}

/// Hashes and checks passwords.
pub struct Hasher {
    /// One permit per password that is hashed or waits.
    places: Semaphore,
    /// One permit per password that is hashed. A caller that has gone does not return it before the end of its work.
    running: Arc<Semaphore>,
    cost: u32,
}

impl Hasher {
    /// Hashes with `cost`, at most `at_once` passwords at the same time, while at most `queue` wait.
    pub fn new(at_once: usize, queue: usize, cost: u32) -> Self {
        Self { places: Semaphore::new(at_once + queue), running: Arc::new(Semaphore::new(at_once)), cost }
    }

    /// The bcrypt hash of a new password.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full, and the errors of [`hash`].
    pub async fn hash(&self, password: Password) -> Result<String, Error> {
        let cost = self.cost;
        self.run(move || hash(&password, cost)).await
    }

    /// Checks `password` against `hash`.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full, [`Error::Internal`] when `hash` is not a hash of bcrypt.
    pub async fn verify(&self, password: Password, hash: String) -> Result<Checked, Error> {
        let cost = self.cost;
        self.run(move || {
            metrics::counter!("godzilla_accounts_passwords_verified_total").increment(1);
            let no_hash = |_| Error::Internal("the stored hash of a user is no hash");
            if !bcrypt::non_truncating_verify(password.reveal(), &hash).map_err(no_hash)? {
                return Ok(Checked::Mismatch);
            }
            let found = hash.parse::<bcrypt::HashParts>().map_err(no_hash)?.get_cost();
            let renewed = (found != cost).then(|| self::hash(&password, cost)).transpose()?;
            Ok(Checked::Match { renewed })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Ok(_place) = self.places.try_acquire() else {
            metrics::counter!("godzilla_accounts_password_queue_full_total").increment(1);
            return Err(Error::Overloaded);
        };
        let turn = timeout(MAX_WAIT, self.running.clone().acquire_owned()).await;
        let turn = turn.map_err(|_: Elapsed| Error::Overloaded)?;
        let hashed = spawn_blocking(move || {
            let _turn = turn;
            let began = Instant::now();
            let hashed = work();
            metrics::histogram!("godzilla_accounts_password_seconds").record(began.elapsed().as_secs_f64());
            hashed
        });
        hashed.await.unwrap_or(Err(Error::Internal("a password check panicked")))
    }

    /// Takes all places, until the result is dropped.
    #[cfg(test)]
    pub fn fill(&self) -> tokio::sync::SemaphorePermit<'_> {
        let free = u32::try_from(self.places.available_permits()).unwrap();
        self.places.try_acquire_many(free).unwrap()
    }
}

/// Hashes `password` with bcrypt. Blocks; the time doubles with each step of `cost`.
///
/// # Errors
/// [`Error::Entropy`] when the system gives no salt, [`Error::Internal`] for a cost beyond bcrypt's range.
pub fn hash(password: &Password, cost: u32) -> Result<String, Error> {
    bcrypt::non_truncating_hash(password.reveal(), cost).map_err(|error| match error {
        bcrypt::BcryptError::Rand(_) => Error::Entropy,
        _ => Error::Internal("bcrypt refused to hash"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    #[actix_rt::test]
    async fn hashes_of_the_original_application_verify_and_are_renewed() {
        let hasher = Hasher::new(1, 4, 4);
        let parts = bcrypt::non_truncating_hash_with_result("correct horse", 5).unwrap();
        for version in [bcrypt::Version::TwoA, bcrypt::Version::TwoY, bcrypt::Version::TwoB] {
            let hash = parts.format_for_version(version);
            let checked = hasher.verify(password("correct horse"), hash).await.unwrap();
            let Checked::Match { renewed: Some(renewed) } = checked else { panic!("{checked:?}") };
            assert!(renewed.starts_with("$2b$04$"), "{renewed}");
        }
    }

    #[actix_rt::test]
    async fn passwords_beyond_the_queue_are_refused_at_once() {
        let hasher = Hasher::new(1, 1, 4);
        let hash = || hasher.hash(password("correct horse"));
        let (one, two, three) = tokio::join!(hash(), hash(), hash());
        assert!(one.is_ok() && two.is_ok() && matches!(three, Err(Error::Overloaded)));
        assert!(hash().await.is_ok());
    }
}

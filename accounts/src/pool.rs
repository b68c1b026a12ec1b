//! The thread pool for bcrypt: few threads with low priority behind a bounded queue, so that a flood of logins does not occupy event
//! loops or all cores. The [queue] is fair by client address.

pub mod queue;

use std::{
    io, iter,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use supervision::Part;
use tokio::sync::oneshot;

use self::queue::{Full, Lane, Queue};
use crate::{Error, Password};

/// Timeout of a call, including the time in the queue.
const DEADLINE: Duration = Duration::from_secs(10);

/// Time without progress after which a pool with waiting calls is not ready. It equals the timeout of a call, so at least one call has
/// failed by then. A check of the highest cost takes a few seconds.
const STALLED: Duration = DEADLINE;

/// Maximum cost of a stored hash. A damaged or injected row with a higher cost would occupy a thread for minutes.
const MAX_STORED_COST: u32 = 16;

/// Niceness of the threads.
const NICENESS: i32 = 10;

type Work = Box<dyn FnOnce() + Send>;

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

/// The pool. After a drop, the threads finish the queue and end.
pub struct Pool {
    queue: Arc<Queue<Work>>,
    cost: u32,
    verified: Arc<AtomicU64>,
    /// Sum of the rounds of bcrypt of all mismatches.
    rounds: Arc<AtomicU64>,
}

impl Pool {
    /// Starts `threads` threads for hashes of `cost`, with a queue of `queue` calls.
    pub fn new(threads: usize, queue: usize, cost: u32) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(queue));
        for _ in 0..threads {
            let queue = queue.clone();
            thread::Builder::new().name("password".into()).spawn(move || work(&queue))?;
        }
        Ok(Self { queue, cost, verified: Arc::default(), rounds: Arc::default() })
    }

    /// The bcrypt hash of a new password of the client `from`.
    pub async fn hash(&self, from: Lane, password: Password) -> Result<String, Error> {
        let cost = self.cost;
        self.run(from, move || hash(&password, cost)).await
    }

    /// Checks `password` against `hash`. A mismatch takes the time of a hash of cost `level`, even when `hash` has a lower cost. So its
    /// time reveals neither an old hash nor whether the user exists.
    ///
    /// # Errors
    /// [`Error::Damaged`] when `hash` is not a valid hash.
    pub async fn verify(
        &self,
        from: Lane,
        password: Password,
        hash: String,
        level: u32,
    ) -> Result<Checked, Error> {
        let (verified, rounds, cost) = (self.verified.clone(), self.rounds.clone(), self.cost);
        self.run(from, move || {
            verified.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("godzilla_accounts_passwords_verified_total").increment(1);
            let found = cost_of(&hash)?;
            if verify(&password, &hash)? {
                let renewed = (found != cost).then(|| self::hash(&password, cost)).transpose()?;
                return Ok(Checked::Match { renewed });
            }
            // 2^found and 2^found + ... + 2^(level-1) are 2^level together.
            let padding = found..level;
            rounds.fetch_add(
                iter::once(found).chain(padding.clone()).map(|cost| 1 << cost).sum(),
                Ordering::Relaxed,
            );
            for cost in padding {
                self::hash(&password, cost)?;
            }
            Ok(Checked::Mismatch)
        })
        .await
    }

    /// Whether calls wait and no thread has taken any for [`STALLED`], for `/readyz`.
    pub fn is_stalled(&self) -> bool {
        self.queue.is_stalled(STALLED)
    }

    /// Sum of the rounds of bcrypt of all mismatches.
    #[cfg(test)]
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Number of password checks.
    #[cfg(test)]
    pub fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    /// Runs `work` on a thread of the pool. Skips it when the caller has stopped waiting.
    async fn run<T, F>(&self, from: Lane, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = move || {
            if reply.is_closed() {
                return;
            }
            let began = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(work));
            metrics::histogram!("godzilla_accounts_password_seconds").record(began.elapsed().as_secs_f64());
            let _ = reply.send(outcome.unwrap_or(Err(Error::Internal("a password check panicked"))));
        };
        // What is dropped here is refused, because its sender sees the end of its channel.
        drop(self.queue.push(from, Box::new(work)).map_err(refused)?.inspect(|_| count_full("displaced")));
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(answered) => answered.unwrap_or(Err(Error::Overloaded)),
            Err(_) => Err(Error::Overloaded),
        }
    }
}

/// Hashes `password` with bcrypt. Blocks; the time doubles with each step of `cost`.
pub fn hash(password: &Password, cost: u32) -> Result<String, Error> {
    bcrypt::non_truncating_hash(password.reveal(), cost).map_err(|error| match error {
        bcrypt::BcryptError::Rand(_) => Error::Entropy,
        _ => Error::Internal("bcrypt refused to hash"),
    })
}

fn verify(password: &Password, hash: &str) -> Result<bool, Error> {
    bcrypt::non_truncating_verify(password.reveal(), hash).map_err(|_| Error::Damaged("hash"))
}

/// The cost of a stored hash.
///
/// # Errors
/// [`Error::Damaged`] when `hash` is not a valid hash or its cost exceeds [`MAX_STORED_COST`].
pub fn cost_of(hash: &str) -> Result<u32, Error> {
    let is_bcrypt = ["$2a$", "$2b$", "$2y$"].iter().any(|version| hash.starts_with(version));
    let parts: bcrypt::HashParts = hash.parse().map_err(|_| Error::Damaged("hash"))?;
    let is_allowed = is_bcrypt && parts.get_cost() <= MAX_STORED_COST;
    is_allowed.then(|| parts.get_cost()).ok_or(Error::Damaged("hash"))
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn refused(full: Full) -> Error {
    count_full(match full {
        Full::Share => "share",
        Full::Queue => "queue",
    });
    Error::Overloaded
}

fn count_full(reason: &'static str) {
    metrics::counter!("godzilla_accounts_password_queue_full_total", "reason" => reason).increment(1);
}

fn work(queue: &Queue<Work>) {
    // On Linux, niceness is per thread. A refusal only affects the priority.
    let _ = rustix::process::nice(NICENESS);
    let _alive = Part::new("password pool");
    while let Some(work) = queue.next() {
        // The caller of work that panics receives an error. The thread continues.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            supervision::fault!("password pool");
            work();
        }));
    }
}

#[cfg(test)]
pub mod tests;

//! Rounds of a transaction: it is tried again when a concurrent transaction has written one of its documents. A commit that is not answered
//! is repeated, because MongoDB executes it once.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use mongodb::{ClientSession, error::Error as MongoError};
use remote::mongo::{Operation, is_transient, is_unknown_commit, transaction};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout_at},
};

use super::{
    MongoDirectory,
    resolve_unknown::{Outcome, Unknown},
};
use crate::{Error, directory::RoomChange};

/// Maximum number of rounds of a change.
const MAX_ROUNDS: u32 = 16;

/// Increment of the delay between two rounds.
const BACKOFF_STEP: Duration = Duration::from_millis(4);

/// The delay before a commit without an answer is repeated.
const REPEAT_DELAY: Duration = Duration::from_millis(50);

/// The number of locks of [`Turns`].
const TURNS: usize = 256;

/// Locks by the name of a room. Rooms may share a lock. Cheap to clone; clones share the locks.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<[Arc<Mutex<()>>]>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Arc::default()).collect())
    }
}

impl Turns {
    fn of(&self, room: &str) -> Arc<Mutex<()>> {
        let mut hasher = DefaultHasher::new();
        room.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        self.0[at].clone()
    }
}

/// What a transaction has decided.
pub(super) enum Decision<T> {
    /// Its statements were executed. They have an effect when it is committed.
    Written(T, RoomChange),
    /// There is nothing to change.
    Unchanged(T),
}

/// Why a transaction ends without a commit.
#[derive(Debug)]
pub(super) enum Fault {
    /// The change is refused, or the store failed.
    Refused(Error),
    /// A statement failed.
    Mongo(MongoError),
    /// Another transaction was faster.
    Conflict,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<MongoError> for Fault {
    fn from(error: MongoError) -> Self {
        Self::Mongo(error)
    }
}

/// The statements of a transaction.
#[async_trait]
pub(super) trait Work: Sync {
    /// What the caller receives.
    type Output: Send;

    /// The name of the room that it writes.
    fn room(&self) -> &str;

    /// Executes the statements once. All reads are of one snapshot.
    async fn run(
        &self,
        directory: &MongoDirectory,
        session: &mut ClientSession,
    ) -> Result<Decision<Self::Output>, Fault>;
}

/// The end of a round.
enum Round<T> {
    Ended(Outcome<T>),
    Conflict,
}

impl MongoDirectory {
    /// Runs `work` in a transaction, and again while other transactions are faster, and commits it.
    pub(super) async fn in_rounds<W: Work>(&self, deadline: Instant, work: &W) -> Outcome<W::Output> {
        // Transactions of one node do not conflict with each other.
        let turn = self.turns.of(work.room()).lock_owned();
        let Ok(_turn) = timeout_at(deadline, turn).await else { return Outcome::Refused(late()) };
        for round in 0..MAX_ROUNDS {
            sleep(BACKOFF_STEP * round).await;
            let decided = timeout_at(deadline, async {
                let mut session = transaction(&self.client).await?;
                let decision = work.run(self, &mut session).await?;
                Ok((session, decision))
            });
            let (session, decision) = match decided.await {
                Ok(Ok(decided)) => decided,
                Ok(Err(Fault::Conflict)) => continue,
                Ok(Err(Fault::Mongo(error))) if is_transient(&error) => continue,
                Ok(Err(Fault::Mongo(error))) => return Outcome::Refused(error.into()),
                Ok(Err(Fault::Refused(error))) => return Outcome::Refused(error),
                // Nothing was committed: the session aborts the transaction when it is dropped.
                Err(_) => return Outcome::Refused(late()),
            };
            match self.end(session, decision, deadline).await {
                Round::Ended(outcome) => return outcome,
                Round::Conflict => {}
            }
        }
        Outcome::Refused(Error::full())
    }

    /// Commits. A decision without a change is committed as well: the commit confirms that a majority has what was read.
    async fn end<T>(&self, mut session: ClientSession, decision: Decision<T>, deadline: Instant) -> Round<T> {
        let error = loop {
            let committed = match timeout_at(deadline, self.commit(&mut session)).await {
                Ok(committed) => committed,
                Err(_) => break late(),
            };
            match committed {
                Ok(()) => {
                    return Round::Ended(match decision {
                        Decision::Written(value, change) => Outcome::Changed(value, change),
                        Decision::Unchanged(value) => Outcome::Unchanged(value),
                    });
                }
                Err(error) if is_unknown_commit(&error) => {
                    if timeout_at(deadline, sleep(REPEAT_DELAY)).await.is_err() {
                        break error.into();
                    }
                }
                Err(error) if is_transient(&error) => return Round::Conflict,
                Err(error) => return Round::Ended(Outcome::Refused(error.into())),
            }
        };
        Round::Ended(match decision {
            Decision::Written(_, change) => Outcome::Unknown(Box::new(Unknown { session, change, error })),
            Decision::Unchanged(_) => Outcome::Refused(error),
        })
    }

    /// Commits the transaction, or repeats its commit.
    pub(super) async fn commit(&self, session: &mut ClientSession) -> Result<(), MongoError> {
        self.rooms.write(Operation::Update, async |_| session.commit_transaction().await).await
    }
}

/// The error of a transaction that exceeds its deadline.
fn late() -> Error {
    Error::Store("MongoDB does not answer in time".to_owned())
}

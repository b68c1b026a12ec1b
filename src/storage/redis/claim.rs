//! The claim of the keys of a deployment in Redis for one database of MongoDB, and the other way round. The roles that use both stores hold
//! it together. A role that finds another database, or another Redis, in use closes its [`StoreGate`]: it opens no sessions, publishes nothing
//! and accepts no messages.
//!
//! - `{stores}:id` is the id of this part of Redis. It is created once, by accounts or a chat node. A role that has read it writes it again
//!   when it is lost.
//! - `{stores}:claim` is a lease: `DATABASE UNTIL NAME`, with the id of the database, the end in milliseconds of the clock of Redis, and the
//!   name of the database.
//! - The collection `stores` has the id of the database, and a lease for the id of Redis ([`DatabaseIdentity`]).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::rt::{spawn, time::sleep};
use remote::{Location, Redis, StoreGate, Unanswered};

use super::{claim_script::run, refused};
use crate::{error::Error, storage::DatabaseIdentity, supervision::restart};

/// How long the lease is valid without a renewal.
const TTL: Duration = Duration::from_secs(15);

/// The interval of renewals.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// The pause after an attempt without success.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// Why the gate is closed before the first attempt has ended.
const UNCLAIMED: &str = "is not claimed for the MongoDB database of this role yet";

/// What an operator corrects.
const REMEDY: &str = "set --deployment (GODZILLA_DEPLOYMENT) or another database number in --redis-url (GODZILLA_REDIS_URL), or correct --mongo-uri (GODZILLA_MONGO_URI)";

/// The claim of one role. Cheap to clone.
#[derive(Clone)]
pub struct Claim(Arc<Shared>);

struct Shared {
    gate: StoreGate,
    progress: Mutex<Progress>,
}

/// The result of the last attempt.
struct Progress {
    state: State,
    ids: StoreIds,
}

/// The ids of the stores, as they were read last.
#[derive(Debug, Clone, Default)]
pub struct StoreIds {
    pub redis: Option<String>,
    pub database: Option<String>,
}

/// A store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Database,
    Redis,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// A store has not answered yet. The text follows its name.
    Waits(Part, String),
    /// The roles of another database or another Redis hold the claim. The text follows "Redis".
    Conflict(String),
    /// This deployment holds the claim.
    Held,
}

impl Claim {
    /// A claim that is not made yet. Its gate is closed.
    pub fn new() -> Self {
        let state = State::Waits(Part::Redis, UNCLAIMED.to_owned());
        let progress = Mutex::new(Progress { state, ids: StoreIds::default() });
        Self(Arc::new(Shared { gate: StoreGate::closed(UNCLAIMED), progress }))
    }

    /// The gate of the stores of the role, which is open while the claim is held.
    pub fn gate(&self) -> &StoreGate {
        &self.0.gate
    }

    /// The ids of the stores.
    pub fn ids(&self) -> StoreIds {
        self.progress().ids.clone()
    }

    /// Why the claim is not held: the name of the store, and the cause. `database` is the name of the store with the id of the database. `None`
    /// while it is held.
    pub fn waits(&self, database: &str) -> Option<String> {
        match &self.progress().state {
            State::Waits(Part::Database, text) => Some(format!("{database} {text}")),
            State::Waits(Part::Redis, text) | State::Conflict(text) => Some(format!("Redis {text}")),
            State::Held => None,
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the claim of the keys `at` for `database`, and renews it. Needs a running runtime.
    ///
    /// # Errors
    /// When the address of Redis is invalid.
    pub fn start(&self, at: &Location, database: Arc<dyn DatabaseIdentity>) -> Result<(), Error> {
        let redis = Redis::new(at.clone().with_gate(&StoreGate::default()), 1).map_err(refused)?;
        let this = self.clone();
        spawn(restart("claim of the stores", move || this.clone().renew(redis.clone(), database.clone())));
        Ok(())
    }

    /// The state of MongoDB: `examined`, or why its id is not read yet. A phrase that follows its name. For `/readyz`.
    pub fn database_not_ready_reason(&self, examined: Option<String>) -> Option<String> {
        examined.or_else(|| self.waits_for(Part::Database))
    }

    /// The state of Redis: other roles that hold the claim, `examined`, or why the claim is not made yet. A phrase that follows its name. For
    /// `/readyz`.
    pub fn redis_not_ready_reason(&self, examined: Option<String>) -> Option<String> {
        match &self.progress().state {
            State::Conflict(text) => return Some(text.clone()),
            State::Held | State::Waits(..) => {}
        }
        examined.or_else(|| self.waits_for(Part::Redis))
    }

    fn waits_for(&self, part: Part) -> Option<String> {
        match &self.progress().state {
            State::Waits(on, text) if *on == part => Some(text.clone()),
            _ => None,
        }
    }

    async fn renew(self, redis: Redis, database: Arc<dyn DatabaseIdentity>) {
        loop {
            let state = self.attempt(&redis, &*database).await;
            let is_held = state == State::Held;
            self.set(state);
            sleep(if is_held { INTERVAL } else { RETRY }).await;
        }
    }

    /// Renews the claim, or makes it when no other roles hold one of the stores.
    async fn attempt(&self, redis: &Redis, database: &dyn DatabaseIdentity) -> State {
        let last = self.ids().database;
        let id = match (database.id().await, last) {
            (Ok(id), _) => id,
            // The lease continues while MongoDB is unavailable.
            (Err(_), Some(last)) => last,
            (Err(reason), None) => return State::Waits(Part::Database, reason),
        };
        let (is_held, last) = {
            let mut progress = self.progress();
            progress.ids.database = Some(id.clone());
            (progress.state == State::Held, progress.ids.redis.clone())
        };
        let last = last.filter(|_| is_held);
        // A role that is refused by one store must not hold the other one.
        let lease = if is_held { TTL } else { Duration::ZERO };
        match self.ask(redis, (&id, database.name()), lease).await {
            Ok(None) => {}
            Ok(Some(conflict)) => return State::Conflict(conflict),
            Err(error) => return State::Waits(Part::Redis, error.description()),
        }
        let redis_id = self.ids().redis.unwrap_or_default();
        if let Some(other) = database.hold(&redis_id, last.as_deref(), TTL).await {
            return State::Conflict(format!(
                "(id {redis_id}) is another one than the Redis (id {other}) of running roles that use the same collections of MongoDB: {REMEDY}. {}",
                when_free()
            ));
        }
        if is_held {
            return State::Held;
        }
        match self.ask(redis, (&id, database.name()), TTL).await {
            Ok(None) => State::Held,
            Ok(Some(conflict)) => State::Conflict(conflict),
            Err(error) => State::Waits(Part::Redis, error.description()),
        }
    }

    /// Runs [`SCRIPT`] and records the id of Redis. Returns the conflict with another database that holds the lease.
    async fn ask(
        &self,
        redis: &Redis,
        (id, name): (&str, &str),
        lease: Duration,
    ) -> Result<Option<String>, Unanswered> {
        let last = self.ids().redis.unwrap_or_default();
        let (redis_id, holder, other) = run(redis, &last, (id, name), lease).await?;
        self.progress().ids.redis = Some(redis_id);
        let conflict = || {
            format!(
                "holds the keys of this deployment for another MongoDB database, {other} (id {holder}), and this role uses {name} (id {id}): {REMEDY}. {}",
                when_free()
            )
        };
        Ok((!holder.is_empty()).then(conflict))
    }

    /// Sets the state after an attempt. A store that does not answer changes nothing but the first state.
    fn set(&self, next: State) {
        let mut progress = self.progress();
        let reason = match (&progress.state, &next) {
            (State::Held | State::Conflict(_), State::Waits(_, reason)) => {
                return tracing::debug!(reason, "the claim of the stores is not renewed; retrying");
            }
            (before, next) if before == next => return,
            (_, State::Waits(..)) => Some(UNCLAIMED),
            (_, State::Held) => {
                tracing::info!("the claim of the stores is acquired");
                None
            }
            (_, State::Conflict(text)) => {
                tracing::error!(
                    "the stores are in use by another deployment, so this role does not use them: Redis {text}"
                );
                Some(&**text)
            }
        };
        self.0.gate.set(reason);
        progress.state = next;
    }
}

/// When a role can make a claim that others hold.
fn when_free() -> String {
    format!("They are free {} s after the other roles have ended", TTL.as_secs())
}

//! Sessions in Redis, for services in several processes. Used through [`Sessions`].
//!
//! `session:<id>` contains a session as JSON and expires by itself. `sessions-of:<user>` lists the sessions of a user, oldest first.
//! Each change is one script, so a crash leaves no partial change. A closing is published on one channel. Every process receives it
//! there, also the process that closed the session.
//!
//! After a crash Redis may contain sessions that were closed shortly before, in particular when it only takes snapshots. So the
//! process that closes sessions also adds each closing to a [`Revocations`] list. It applies that list to every Redis that starts,
//! and no process uses the Redis before that (`fence`).

mod fence;
mod names;
mod readiness;
mod replacements;
mod revocation_writer;
mod scripts;
mod settings;
mod watch;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use proto::{Timestamp, Username};
pub use remote::NotAnAddress;

pub use self::readiness::refusal as redis_refusal;
use remote::{Location, Redis, Unanswered};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use self::{
    fence::{Access, LatestGeneration, NOT_CONFIRMED},
    names::Names,
    revocation_writer::RevocationWriter,
};
use crate::{
    Clock, ClosingSender, Closings, Error, LIFETIME_SECONDS, Revocations, Session, SessionId, Sessions, Token,
};

/// The prefix of the id of a replaced session in the channel of closings. Such a closing is published twice, first with the prefix:
/// processes of earlier releases parse only the second message.
const REPLACED: &str = "replaced:";

/// The same prefix for a session that is evicted because its user has too many.
const EVICTED: &str = "crowded:";

/// The maximum number of connections to Redis.
const CONNECTIONS: usize = 16;

/// The maximum number of connections for trials: one request at a time, and one more while a late request is abandoned.
const TRIAL_CONNECTIONS: usize = 2;

/// The number of closings that are buffered for a watcher. A watcher that lags further loses the oldest.
const CLOSINGS: usize = 1_024;

/// The lifetime of a session in milliseconds.
const LIFETIME_MILLIS: u64 = LIFETIME_SECONDS * 1_000;

/// Sessions in one Redis.
pub struct RedisSessions {
    redis: Redis,
    /// Connections to the same Redis that are also established while it is not confirmed.
    trial: Redis,
    names: Names,
    clock: Clock,
    closings: ClosingSender,
    /// Whether the subscription to closings is established.
    subscribed: Arc<AtomicBool>,
    /// The cause when the subscription is not established.
    subscription_fault: watch::SubscriptionFault,
    /// Why the fence record cannot be maintained. `None` while it can, and in processes that only find sessions.
    fence_fault: fence::FenceFault,
    /// Writes closings to the durable list. `None` in processes that only find sessions.
    writer: Option<Arc<RevocationWriter>>,
    /// The latest generation of Redis that this process has seen.
    latest: Arc<LatestGeneration>,
    /// The tasks that receive closings and maintain the fence record. They end when this value is dropped.
    tasks: Vec<JoinHandle<()>>,
}

/// The value of a session in Redis.
#[derive(Clone, Serialize, Deserialize)]
struct StoredSession {
    username: String,
    issued_at: u64,
    /// The ids of the sessions that this one replaces, until its first use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaces: Vec<String>,
    /// Whether the response to a login that replaces this session was sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    superseded: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("Redis {NOT_CONFIRMED}")]
struct NotConfirmed;

impl RedisSessions {
    /// Finds sessions in the Redis at `at`, which need not be reachable yet: see [`RedisSessions::not_ready_reason`]. Needs a running
    /// runtime. `clock` is [`ages::now`](crate::ages::now), except in tests.
    ///
    /// # Errors
    /// When the address is not of the form `redis://[user:password@]host[:port][/database]`.
    pub fn new(
        at: impl Into<Location>,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self, NotAnAddress> {
        Self::with_access(at.into(), clock, Access::Read)
    }

    /// Like [`RedisSessions::new`], and opens and closes sessions too. Closed sessions are added to `revocations`, and are closed
    /// again in each Redis that starts.
    ///
    /// # Errors
    /// When the address is not valid, as for [`RedisSessions::new`].
    pub fn with_revocations(
        at: impl Into<Location>,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        revocations: Arc<dyn Revocations>,
    ) -> Result<Self, NotAnAddress> {
        let mut this = Self::with_access(at.into(), clock, Access::Write)?;
        let writer = Arc::new(RevocationWriter::new(revocations, this.names.clone()));
        let (redis, latest, kept) = (this.redis.clone(), this.latest.clone(), writer.clone());
        let fault = this.fence_fault.clone();
        this.tasks.push(tokio::spawn(supervision::restart("revocation writer", move || {
            fence::maintain(redis.clone(), kept.clone(), latest.clone(), fault.clone())
        })));
        this.writer = Some(writer);
        Ok(this)
    }

    fn with_access(
        at: Location,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        access: Access,
    ) -> Result<Self, NotAnAddress> {
        let latest = Arc::new(LatestGeneration::default());
        let names = Names::of(&at);
        let hook = fence::hook(access, latest.clone(), names.clone());
        let trial = Redis::new(at.clone(), TRIAL_CONNECTIONS)?;
        let redis = Redis::with_hook(at, CONNECTIONS, Some(hook))?;
        let closings = ClosingSender::new(CLOSINGS);
        let subscribed = Arc::new(AtomicBool::new(false));
        let subscription_fault = watch::SubscriptionFault::default();
        let subscription = watch::Subscription {
            channel: names.channel.clone(),
            fence: names.fence.clone(),
            closings: closings.clone(),
            established: subscribed.clone(),
            fault: subscription_fault.clone(),
            latest: latest.clone(),
        };
        let client = redis.client().clone();
        let watch = tokio::spawn(supervision::restart("session watch", move || {
            watch::watch(client.clone(), subscription.clone())
        }));
        let (clock, tasks) = (Arc::new(clock), vec![watch]);
        Ok(Self {
            redis,
            trial,
            names,
            clock,
            closings,
            subscribed,
            subscription_fault,
            fence_fault: fence::FenceFault::default(),
            writer: None,
            latest,
            tasks,
        })
    }

    /// Whether the subscription to closings is established, so that closings are received.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed.load(Ordering::Acquire)
    }

    /// The live session of this id, parsed and as its raw value. `None` when there is no live session of this id.
    async fn stored(&self, id: &SessionId) -> Result<Option<(Session, StoredSession, Vec<u8>)>, Error> {
        let (record, key) = (&self.names.fence, self.names.session(id));
        let request = self
            .redis
            .ask(async |mut redis| fence::get_with_record::<Option<Vec<u8>>>(&mut redis, record, &key).await);
        let (record, history, value) = request.await.map_err(unavailable)?;
        if !self.accepts(record.as_deref(), &history).await {
            return Err(unavailable(NotConfirmed));
        }
        Ok(value.and_then(|value| {
            let (session, stored) = self.parse(id, &value)?;
            Some((session, stored, value))
        }))
    }

    /// Parses the value of a session. `None` when the session is closed, damaged, expired, or dated too far ahead of the clock.
    fn parse(&self, id: &SessionId, value: &[u8]) -> Option<(Session, StoredSession)> {
        if value == scripts::CLOSED.as_bytes() {
            return None;
        }
        let stored = serde_json::from_slice::<StoredSession>(value)
            .inspect_err(|_| tracing::error!(%id, "a stored session is damaged and counts as closed"))
            .ok()?;
        let username = stored.username.parse().ok()?;
        let ends = stored.issued_at.checked_add(LIFETIME_MILLIS)?;
        let (issued_at, is_superseded) = (Timestamp(stored.issued_at), stored.superseded);
        let now = (self.clock)();
        let is_live = now.0 < ends && !issued_at.is_ahead_of(now);
        is_live.then(|| (Session { id: id.clone(), username, issued_at, is_superseded }, stored))
    }
}

#[async_trait]
impl Sessions for RedisSessions {
    async fn replace(&self, user: &Username, old: &[Token]) -> Result<Token, Error> {
        self.open_replacing(user, old).await
    }

    async fn supersede(&self, new: &SessionId) -> Result<(), Error> {
        self.supersede_replaced(new).await
    }

    async fn find_by_id(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        let Some((session, stored, value)) = self.stored(id).await? else { return Ok(None) };
        if !stored.replaces.is_empty() {
            self.close_replaced(id, stored, &value).await?;
        }
        Ok(Some(session))
    }

    async fn close(&self, token: &Token) -> Result<bool, Error> {
        let id = token.id();
        // An error of one session does not prevent the others from being closed.
        let mut others = Ok(());
        for related in self.related(&id).await? {
            others = others.and(self.revoke(related).await.map(drop));
        }
        let was_live = self.revoke(id).await?;
        others.map(|()| was_live)
    }

    async fn close_all(&self, user: &Username) -> Result<(), Error> {
        let mut script = scripts::LIST.prepare_invoke();
        script.key(self.names.sessions_of(user));
        let request = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await);
        let entries: Vec<Vec<u8>> = request.await.map_err(unavailable)?;
        let entries = entries.iter().filter_map(|entry| std::str::from_utf8(entry).ok());
        for id in entries.filter_map(|entry| entry.rsplit(':').next()?.parse().ok()) {
            self.revoke(id).await?;
        }
        Ok(())
    }

    fn closings(&self) -> Closings {
        self.closings.subscribe()
    }
}

impl RedisSessions {
    /// Closes a session and returns whether it was live.
    async fn revoke(&self, id: SessionId) -> Result<bool, Error> {
        let mut script = scripts::CLOSE.prepare_invoke();
        script.key(self.names.session(&id)).arg(id.as_str()).arg(&self.names.channel);
        let closed = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await;
        let value: Option<Vec<u8>> = match closed {
            // A full Redis rejects the `closed` value and still deletes keys. The list is written first then.
            Err(Unanswered::Redis(error)) if error.code() == Some("OOM") && self.writer.is_some() => None,
            Ok(None) => return Ok(false),
            closed => closed.map_err(unavailable)?,
        };
        if let Some(writer) = &self.writer {
            // A retry after an error reaches this step again.
            writer.add(vec![id.clone()]).await?;
        }
        let mut script = scripts::REMOVE.prepare_invoke();
        script.key(self.names.session(&id)).arg(id.as_str()).arg(&self.names.channel);
        let removed: Option<Vec<u8>> = self
            .redis
            .ask(async |mut redis| script.invoke_async(&mut redis).await)
            .await
            .map_err(unavailable)?;
        Ok(value.or(removed).is_some_and(|value| self.parse(&id, &value).is_some()))
    }
}

impl Drop for RedisSessions {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable(Box::new(error))
}

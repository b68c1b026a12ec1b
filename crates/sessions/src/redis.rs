//! Sessions in Redis, for services in several processes. Used through [`Sessions`].
//!
//! `session:<id>` holds a session as JSON and ends by itself; `sessions-of:<user>` lists a user's, oldest first. Every change
//! is one script, so a crash leaves none half done. A closing is published on one channel, and every process, the one that
//! closed included, hears of it there and nowhere else.
//!
//! A crash of Redis may bring back what was closed just before, all the more with snapshots alone. So every closing is kept in a
//! [`Closed`] list, too, by whoever closes, who also tells a Redis that was started of that list; before that nobody uses it.

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
use remote::{Location, Redis, Unanswered, redis::AsyncCommands};
use serde::{Deserialize, Serialize};
use tokio::{sync::broadcast, task::JoinHandle};

use self::{
    fence::{Asking, Incarnation, NOT_CONFIRMED},
    names::Names,
    revocation_writer::RevocationWriter,
};
use crate::{Clock, Closing, Error, LIFETIME_SECONDS, Revocations, Session, SessionId, Sessions, Token};

/// The prefix of a replaced session's id in the channel of closings. Its closing is published twice, first with the prefix: a
/// process of an earlier release reads the second one only.
const REPLACED: &str = "replaced:";

/// The same of a session that ends because its user has too many.
const EVICTED: &str = "crowded:";

/// Connections to Redis at most.
const CONNECTIONS: usize = 16;

/// Closings a watcher may be behind before it loses the oldest.
const CLOSINGS: usize = 1_024;

/// A session's life in milliseconds.
const LIFETIME_MILLIS: u64 = LIFETIME_SECONDS * 1_000;

/// Sessions in one Redis.
pub struct RedisSessions {
    redis: Redis,
    names: Names,
    clock: Clock,
    closings: broadcast::Sender<Closing>,
    /// Whether closings are being heard.
    listening: Arc<AtomicBool>,
    /// Why they are not, as far as Redis says.
    deafness: watch::SubscriptionFault,
    /// Where closings are kept for good, by whoever closes.
    writer: Option<Arc<RevocationWriter>>,
    /// Which of Redis's generations is the last one seen.
    seen: Arc<Incarnation>,
    /// What hears of closings and what tells Redis of them; they end with this value.
    tasks: Vec<JoinHandle<()>>,
}

/// What is kept of a session.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    username: String,
    issued_at: u64,
    /// The ids of the sessions that it replaces, until its first use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaces: Vec<String>,
    /// Whether the answer to a login that replaces it was sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    superseded: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("Redis {NOT_CONFIRMED}")]
struct Past;

impl RedisSessions {
    /// Sessions in the Redis at `url`, to be found there. Redis need not be there yet: see [`RedisSessions::obstacle`]. Needs a running
    /// runtime. `clock` is [`ages::now`](crate::ages::now) but in tests.
    ///
    /// # Errors
    /// When `url` is not of the form `redis://[user:password@]host[:port][/database]`.
    pub fn new(
        at: impl Into<Location>,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self, NotAnAddress> {
        Self::greeting(at.into(), clock, Asking::Finder)
    }

    /// The same, to be opened and closed: what is closed is kept in `closed`, and closed again in a Redis that was started.
    ///
    /// # Errors
    /// See [`RedisSessions::new`].
    pub fn keeping(
        at: impl Into<Location>,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        closed: Arc<dyn Revocations>,
    ) -> Result<Self, NotAnAddress> {
        let mut this = Self::greeting(at.into(), clock, Asking::RevocationWriter)?;
        let writer = Arc::new(RevocationWriter::new(closed, this.names.clone()));
        let (client, seen, kept) = (this.redis.client().clone(), this.seen.clone(), writer.clone());
        this.tasks.push(tokio::spawn(supervision::restart("session keeper", move || {
            fence::tell(client.clone(), kept.clone(), seen.clone())
        })));
        this.writer = Some(writer);
        Ok(this)
    }

    fn greeting(
        at: Location,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        asking: Asking,
    ) -> Result<Self, NotAnAddress> {
        let seen = Arc::new(Incarnation::default());
        let names = Names::of(&at);
        let trusted = fence::trusted(asking, seen.clone(), names.clone());
        let redis = Redis::greeted(at, CONNECTIONS, Some(trusted))?;
        let (closings, _) = broadcast::channel(CLOSINGS);
        let listening = Arc::new(AtomicBool::new(false));
        let deafness = watch::SubscriptionFault::default();
        let heard = watch::Revoked {
            channel: names.channel.clone(),
            closings: closings.clone(),
            listening: listening.clone(),
            deafness: deafness.clone(),
            seen: seen.clone(),
        };
        let client = redis.client().clone();
        let watch = tokio::spawn(supervision::restart("session watch", move || {
            watch::watch(client.clone(), heard.clone())
        }));
        let (clock, tasks) = (Arc::new(clock), vec![watch]);
        Ok(Self { redis, names, clock, closings, listening, deafness, writer: None, seen, tasks })
    }

    /// Whether a closing would be heard now.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// The session of this id, if it is live, what is kept of it, and in which words.
    async fn kept(&self, id: &SessionId) -> Result<Option<(Session, Kept, Vec<u8>)>, Error> {
        let (mark, key) = (&self.names.mark, self.names.session(id));
        let asked =
            self.redis.ask(async |mut redis| fence::ask::<Option<Vec<u8>>>(&mut redis, mark, &key).await);
        let (mark, history, value) = asked.await.map_err(unavailable)?;
        if !self.accepts(mark.as_deref(), &history).await {
            return Err(unavailable(Past));
        }
        Ok(value.and_then(|value| {
            let (session, kept) = self.read(id, &value)?;
            Some((session, kept, value))
        }))
    }

    /// What a value says, if it says something and is not too old.
    fn read(&self, id: &SessionId, value: &[u8]) -> Option<(Session, Kept)> {
        if value == scripts::CLOSED.as_bytes() {
            return None;
        }
        let kept = serde_json::from_slice::<Kept>(value)
            .inspect_err(|_| tracing::error!(%id, "this session is damaged and counts as closed"))
            .ok()?;
        let username = kept.username.parse().ok()?;
        let ends = kept.issued_at.checked_add(LIFETIME_MILLIS)?;
        let (issued_at, is_superseded) = (Timestamp(kept.issued_at), kept.superseded);
        let now = (self.clock)();
        let is_live = now.0 < ends && !issued_at.is_ahead_of(now);
        is_live.then(|| (Session { id: id.clone(), username, issued_at, is_superseded }, kept))
    }
}

#[async_trait]
impl Sessions for RedisSessions {
    async fn replace(&self, user: &Username, old: &[Token]) -> Result<Token, Error> {
        self.open_in_place(user, old).await
    }

    async fn supersede(&self, new: &SessionId) -> Result<(), Error> {
        self.supersede_by(new).await
    }

    async fn look(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        let Some((session, kept, value)) = self.kept(id).await? else { return Ok(None) };
        if !kept.replaces.is_empty() {
            self.settle(id, kept, &value).await?;
        }
        Ok(Some(session))
    }

    async fn close(&self, token: &Token) -> Result<bool, Error> {
        let id = token.id();
        // After an error of one the others are closed all the same.
        let mut others = Ok(());
        for related in self.related(&id).await? {
            others = others.and(self.end(related).await.map(drop));
        }
        let was_live = self.end(id).await?;
        others.map(|()| was_live)
    }

    async fn close_all(&self, user: &Username) -> Result<(), Error> {
        let list = self.names.sessions_of(user);
        let entries: Vec<String> =
            self.redis.ask(async |mut redis| redis.lrange(list, 0, -1).await).await.map_err(unavailable)?;
        for id in entries.iter().filter_map(|entry| entry.rsplit(':').next()?.parse().ok()) {
            self.end(id).await?;
        }
        Ok(())
    }

    fn closings(&self) -> broadcast::Receiver<Closing> {
        self.closings.subscribe()
    }
}

impl RedisSessions {
    /// Closes a session and answers whether there was one.
    async fn end(&self, id: SessionId) -> Result<bool, Error> {
        let mut script = scripts::CLOSE.prepare_invoke();
        script.key(self.names.session(&id)).arg(id.as_str()).arg(&self.names.channel);
        let closed = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await;
        let value: Option<Vec<u8>> = match closed {
            // A full Redis takes no mark and still deletes. The list comes first then.
            Err(Unanswered::Redis(error)) if error.code() == Some("OOM") && self.writer.is_some() => None,
            Ok(None) => return Ok(false),
            closed => closed.map_err(unavailable)?,
        };
        if let Some(writer) = &self.writer {
            // Whoever asks again after an error comes here, too.
            writer.add(vec![id.clone()]).await?;
        }
        let mut script = scripts::REMOVE.prepare_invoke();
        script.key(self.names.session(&id)).arg(id.as_str()).arg(&self.names.channel);
        let removed: Option<Vec<u8>> = self
            .redis
            .ask(async |mut redis| script.invoke_async(&mut redis).await)
            .await
            .map_err(unavailable)?;
        Ok(value.or(removed).is_some_and(|value| self.read(&id, &value).is_some()))
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

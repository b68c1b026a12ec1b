//! Sessions in Redis, for services in several processes. Used through [`Sessions`].
//!
//! `session:<id>` holds a session as JSON and ends by itself; `sessions-of:<user>` lists a user's, oldest first. Every change
//! is one script, so a crash leaves none half done. A closing is published on one channel, and every process, the one that
//! closed included, hears of it there and nowhere else.
//!
//! A crash of Redis may bring back what was closed just before, all the more with snapshots alone. So every closing is kept in a
//! [`Closed`] list, too, by whoever closes, who also tells a Redis that was started of that list; before that nobody uses it.

mod keeper;
mod names;
mod readiness;
mod run;
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
    keeper::Keeper,
    names::Names,
    run::{Asking, Seen, UNTOLD},
};
use crate::{Clock, Closed, Closing, Error, LIFETIME_SECONDS, PER_USER, Session, SessionId, Sessions, Token};

/// The prefix of a replaced session's id in the channel of closings. Its closing is published twice, first with the prefix: a
/// process of an earlier release reads the second one only.
const REPLACED: &str = "replaced:";

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
    deafness: watch::Deafness,
    /// Where closings are kept for good, by whoever closes.
    keeper: Option<Arc<Keeper>>,
    /// Which of Redis's generations is the last one seen.
    seen: Arc<Seen>,
    /// What hears of closings and what tells Redis of them; they end with this value.
    tasks: Vec<JoinHandle<()>>,
}

/// What is kept of a session.
#[derive(Serialize, Deserialize)]
struct Kept {
    username: String,
    issued_at: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("Redis {UNTOLD}")]
struct Past;

impl RedisSessions {
    /// Sessions in the Redis at `url`, to be found there. Redis need not be there yet: see [`RedisSessions::obstacle`]. Needs a running
    /// runtime. `clock` is [`Timestamp::now`] but in tests.
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
        closed: Arc<dyn Closed>,
    ) -> Result<Self, NotAnAddress> {
        let mut this = Self::greeting(at.into(), clock, Asking::Keeper)?;
        let keeper = Arc::new(Keeper::new(closed, this.names.clone()));
        let (client, seen, kept) = (this.redis.client().clone(), this.seen.clone(), keeper.clone());
        this.tasks.push(tokio::spawn(supervision::restart("session keeper", move || {
            run::tell(client.clone(), kept.clone(), seen.clone())
        })));
        this.keeper = Some(keeper);
        Ok(this)
    }

    fn greeting(
        at: Location,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        asking: Asking,
    ) -> Result<Self, NotAnAddress> {
        let seen = Arc::new(Seen::default());
        let names = Names::of(&at);
        let trusted = run::trusted(asking, seen.clone(), names.clone());
        let redis = Redis::greeted(at, CONNECTIONS, Some(trusted))?;
        let (closings, _) = broadcast::channel(CLOSINGS);
        let listening = Arc::new(AtomicBool::new(false));
        let deafness = watch::Deafness::default();
        let heard = watch::Heard {
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
        Ok(Self { redis, names, clock, closings, listening, deafness, keeper: None, seen, tasks })
    }

    /// Whether a closing would be heard now.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// The live session of this id.
    async fn kept(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        let (mark, key) = (&self.names.mark, self.names.session(id));
        let asked =
            self.redis.ask(async |mut redis| run::ask::<Option<Vec<u8>>>(&mut redis, mark, &key).await);
        let (mark, history, value) = asked.await.map_err(unavailable)?;
        if !self.accepts(mark.as_deref(), &history).await {
            return Err(unavailable(Past));
        }
        Ok(value.and_then(|value| self.read(id, &value)))
    }

    /// What a value says, if it says something and is not too old.
    fn read(&self, id: &SessionId, value: &[u8]) -> Option<Session> {
        if value == scripts::CLOSED.as_bytes() {
            return None;
        }
        let kept = serde_json::from_slice::<Kept>(value)
            .inspect_err(|_| tracing::error!(%id, "this session is damaged and counts as closed"))
            .ok()?;
        let username = kept.username.parse().ok()?;
        let ends = kept.issued_at.checked_add(LIFETIME_MILLIS)?;
        let session = Session { id: id.clone(), username, issued_at: Timestamp(kept.issued_at) };
        let now = (self.clock)();
        (now.0 < ends && !session.issued_at.is_ahead_of(now)).then_some(session)
    }
}

#[async_trait]
impl Sessions for RedisSessions {
    async fn replace(&self, user: &Username, old: &[Token]) -> Result<Token, Error> {
        let token = Token::generate()?;
        let now = (self.clock)().0;
        let kept = Kept { username: user.to_string(), issued_at: now };
        let value = serde_json::to_string(&kept).map_err(unavailable)?;
        let old: Vec<SessionId> = old.iter().map(Token::id).collect();
        let mut script = scripts::OPEN.prepare_invoke();
        script.key(self.names.session(&token.id())).key(self.names.sessions_of(user));
        script.arg(value).arg(token.id().as_str()).arg(now).arg(LIFETIME_MILLIS).arg(PER_USER);
        script.arg(&self.names.channel).arg(&self.names.sessions).arg(REPLACED);
        for id in &old {
            script.key(self.names.session(id)).arg(id.as_str());
        }
        let asked = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await;
        let closed: Vec<String> = asked.map_err(unavailable)?;
        let closed: Vec<SessionId> = closed.iter().filter_map(|id| id.parse().ok()).collect();
        if let Some(keeper) = self.keeper.as_ref().filter(|_| !closed.is_empty())
            && let Err(error) = keeper.add(closed).await
        {
            // Its client never gets this token. What cannot be closed either ends by age.
            let _ = self.close(&token).await;
            return Err(error);
        }
        if !old.is_empty() {
            let keys: Vec<String> = old.iter().map(|id| self.names.session(id)).collect();
            self.redis.ask(async |mut redis| redis.del::<_, ()>(keys).await).await.map_err(unavailable)?;
        }
        Ok(token)
    }

    async fn find(&self, token: &Token) -> Result<Option<Session>, Error> {
        self.kept(&token.id()).await
    }

    async fn is_live(&self, id: &SessionId) -> Result<bool, Error> {
        Ok(self.kept(id).await?.is_some())
    }

    async fn close(&self, token: &Token) -> Result<bool, Error> {
        self.end(token.id()).await
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
            Err(Unanswered::Redis(error)) if error.code() == Some("OOM") && self.keeper.is_some() => None,
            Ok(None) => return Ok(false),
            closed => closed.map_err(unavailable)?,
        };
        if let Some(keeper) = &self.keeper {
            // Whoever asks again after an error comes here, too.
            keeper.add(vec![id.clone()]).await?;
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

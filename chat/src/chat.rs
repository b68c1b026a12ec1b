//! The chat as a whole: made by [`crate::start`], shared by all workers, called by clients and HTTP handlers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use actix::{Addr, ArbiterHandle, Handler};
use proto::{RoomName, Username};
use sessions::SharedSessions;
use socketio::Io;
use tokio::{sync::watch, time::timeout_at};

use crate::{
    Config, Error,
    ask::{Ask, Question, Unasked, ask},
    broker::Broker,
    bucket::Buckets,
    config::ANSWER_DEADLINE,
    directory::Directory,
    history::History,
    online::OnlineList,
    presence::Presence,
    reconnects::LastReadPositions,
    recovery_sessions::RecoverySessions,
    room::{Room, membership::Remove},
    rooms::{self, Refresh, Rooms, SettleAll},
    socket_quota::SocketQuota,
    turns::{Turn, Turns},
    user_lookup::UserLookup,
};

/// The running chat. Cheap to clone.
#[derive(Clone)]
pub struct Chat {
    inner: Arc<Inner>,
}

/// See [`Chat`]; made by [`crate::start`].
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) history: Arc<dyn History>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) recovery_sessions: Arc<dyn RecoverySessions>,
    pub(crate) user_lookup: Arc<dyn UserLookup>,
    pub(crate) sessions: SharedSessions,
    pub(crate) rooms: Addr<Rooms>,
    pub(crate) broker: Broker,
    pub(crate) io: Io,
    pub(crate) presence: Presence,
    /// What newcomers are shown of who is here.
    pub(crate) shown: watch::Receiver<OnlineList>,
    pub(crate) socket_quota: SocketQuota,
    pub(crate) reconnects: Arc<LastReadPositions>,
    /// How many may come in at the same time.
    pub(crate) door: Turns,
    /// How many large answers may be read and written at the same time.
    pub(crate) reading: Turns,
    /// What each user may still write over HTTP.
    pub(crate) writes: Mutex<Buckets>,
    /// How many memberships each user may still make for others.
    pub(crate) additions: Mutex<Buckets>,
    /// Nobody new is let in.
    pub(crate) connects_stopped: AtomicBool,
    /// Nothing new is taken.
    pub(crate) draining: AtomicBool,
    /// The threads that the chat has for itself, by their names.
    pub(crate) threads: [(&'static str, ArbiterHandle); 2],
}

impl From<Inner> for Chat {
    fn from(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

impl Chat {
    /// Refuses new sockets from now on. Those that are open, and HTTP, may do everything until [`Chat::drain`].
    pub fn stop_connects(&self) {
        self.inner.connects_stopped.store(true, Ordering::Release);
    }

    /// Refuses new posts and sockets from now on; resolves when every accepted post has its outcome and was handed to the
    /// sockets. With a store that does not answer this takes as long as posts may wait, some ten seconds.
    pub async fn drain(&self) {
        self.inner.draining.store(true, Ordering::Release);
        // In `serve` the service ends with its chat.
        self.inner.presence.expect_end();
        if self.inner.rooms.send(SettleAll).await.is_err() {
            tracing::debug!("rooms ended before they were drained");
        }
        self.inner.broker.flush().await;
    }

    /// Whether the chat can do its work, for `/readyz`: the keeper of rooms and the workers' shards answer, the log moves, and the
    /// chat is not being drained. The store answers for itself: [`crate::Store::obstacle`]. The caller keeps the time.
    pub async fn is_ready(&self) -> bool {
        self.check_connects().is_ok()
            && self.inner.broker.is_open()
            && self.inner.rooms.send(rooms::Ping).await.is_ok()
            && self.inner.io.shards_alive().await > 0
    }

    /// Why the log of a cluster is not followed, if so, in words that go behind "the log". For `/readyz`: messages and changes are then
    /// delivered from the store.
    pub fn broker_not_ready_reason(&self) -> Option<String> {
        self.inner.broker.not_ready_reason()
    }

    /// The threads that the chat has for itself, by their names, for who watches that they run.
    pub fn threads(&self) -> &[(&'static str, ArbiterHandle)] {
        &self.inner.threads
    }

    /// Refuses while [`Chat::drain`] is under way.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        let draining = self.inner.draining.load(Ordering::Acquire);
        if draining { Err(Error::Unavailable("the server is shutting down, try again")) } else { Ok(()) }
    }

    /// Refuses from [`Chat::stop_connects`] on.
    pub(crate) fn check_connects(&self) -> Result<(), Error> {
        self.check_open()?;
        let closed = self.inner.connects_stopped.load(Ordering::Acquire);
        if closed { Err(Error::Unavailable("the server is shutting down, try again")) } else { Ok(()) }
    }

    /// Counts a write over HTTP against its user's limit.
    pub(crate) fn check_write(&self, user: &Username) -> Result<(), Error> {
        self.check_open()?;
        take(&self.inner.writes, user, "too many requests")
    }

    /// Counts that a user adds another to a room.
    pub(crate) fn check_addition(&self, user: &Username) -> Result<(), Error> {
        take(&self.inner.additions, user, "too many user_lookup added to rooms")
    }

    /// The actor of a room.
    pub(crate) async fn room(&self, name: &RoomName) -> Result<Addr<Room>, Error> {
        rooms::find(&self.inner.rooms, name).await
    }

    /// Lets the actor of a room, if there is one, read it again. What is asked from now on is asked after that.
    pub(crate) async fn refresh(&self, name: &RoomName) {
        if timeout_at(deadline_now().into(), self.inner.rooms.send(Refresh(name.clone()))).await.is_err() {
            tracing::warn!(room = %name, "a room was not read again in time");
        }
    }

    /// Asks a room, wherever it is; one that was put away meanwhile is found again.
    pub(crate) async fn ask<Q>(
        &self,
        room: &RoomName,
        mut question: Q,
        deadline: Instant,
    ) -> Result<Q::Answer, Error>
    where
        Q: Question,
        Room: Handler<Ask<Q>>,
    {
        let answered = async {
            for _ in 0..2 {
                match ask(&self.room(room).await?, question) {
                    Ok(pending) => return pending.answer().await,
                    Err(Unasked::Full) => return Err(Error::full()),
                    Err(Unasked::Gone(back)) => question = back,
                }
            }
            Err(Error::gone())
        };
        with_deadline(deadline, answered).await
    }

    /// Ends a membership. The user is not shown typing in the room from then on.
    pub(crate) async fn remove(
        &self,
        room: &RoomName,
        remove: Remove,
        deadline: Instant,
    ) -> Result<(), Error> {
        let user = remove.user.clone();
        self.ask(room, remove, deadline).await?;
        self.presence().typing(&user, room, false);
        Ok(())
    }

    /// A turn at reading much from the store: what is read waits in memory until it is on its way to the client, so only so many do
    /// at a time. Hold it until then.
    pub(crate) async fn reading(&self, user: &Username) -> Result<Turn<'_>, Error> {
        self.inner.reading.take(user).await
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn history(&self) -> &dyn History {
        &*self.inner.history
    }

    pub(crate) fn directory(&self) -> &dyn Directory {
        &*self.inner.directory
    }

    pub(crate) fn user_lookup(&self) -> &dyn UserLookup {
        &*self.inner.user_lookup
    }

    pub(crate) fn recovery_sessions(&self) -> &dyn RecoverySessions {
        &*self.inner.recovery_sessions
    }

    pub(crate) fn sessions(&self) -> &SharedSessions {
        &self.inner.sessions
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.inner.broker
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.inner.presence
    }

    /// Who is here, as a newcomer is shown it.
    pub(crate) fn shown(&self) -> OnlineList {
        self.inner.shown.borrow().clone()
    }

    pub(crate) fn socket_quota(&self) -> &SocketQuota {
        &self.inner.socket_quota
    }

    pub(crate) fn reconnects(&self) -> &LastReadPositions {
        &self.inner.reconnects
    }

    pub(crate) fn door(&self) -> &Turns {
        &self.inner.door
    }
}

fn take(buckets: &Mutex<Buckets>, user: &Username, what: &'static str) -> Result<(), Error> {
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = buckets.take(&user.key(), Instant::now());
    taken.map_err(|retry_after| Error::RateLimited { what, retry_after })
}

/// When an answer to what came in now is due.
pub(crate) fn deadline_now() -> Instant {
    Instant::now() + ANSWER_DEADLINE
}

/// Waits for `work`, until `deadline` at most.
pub(crate) async fn with_deadline<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(Error::late()))
}

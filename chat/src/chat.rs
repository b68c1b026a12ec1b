//! The handle of the running chat. Created by [`crate::start`], shared by all workers, used by clients and HTTP handlers.

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
use tokio::time::timeout_at;

use crate::{
    Config, Error,
    ask::{Ask, AskError, Question, ask},
    broker::Broker,
    bucket::Buckets,
    config::ANSWER_DEADLINE,
    directory::{Directory, Request},
    history::History,
    presence::Presence,
    reconnects::LastReadPositions,
    recovery_ticket::TicketKey,
    room::{Change, Room},
    rooms::{self, Rooms, SettleAll},
    socket_quota::SocketQuota,
    turns::{Turn, Turns},
    user_lookup::UserLookup,
};

/// The running chat. Cheap to clone.
#[derive(Clone)]
pub struct Chat {
    inner: Arc<Inner>,
}

/// The shared state behind [`Chat`]. Created by [`crate::start`].
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) history: Arc<dyn History>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) tickets: TicketKey,
    pub(crate) user_lookup: Arc<dyn UserLookup>,
    pub(crate) sessions: SharedSessions,
    pub(crate) rooms: Addr<Rooms>,
    pub(crate) broker: Broker,
    pub(crate) io: Io,
    pub(crate) presence: Presence,
    pub(crate) socket_quota: SocketQuota,
    pub(crate) reconnects: Arc<LastReadPositions>,
    /// Limits the concurrent CONNECTs.
    pub(crate) connect_turns: Turns,
    /// Limits the concurrent large answers.
    pub(crate) read_turns: Turns,
    /// The rate limit of each user's HTTP writes.
    pub(crate) writes: Mutex<Buckets>,
    /// New clients are refused.
    pub(crate) connects_stopped: AtomicBool,
    /// New clients and posts are refused.
    pub(crate) draining: AtomicBool,
    /// The chat's own threads by name.
    pub(crate) threads: [(&'static str, ArbiterHandle); 2],
}

impl From<Inner> for Chat {
    fn from(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

impl Chat {
    /// Refuses new clients from now on. Connected clients and HTTP are served as before until [`Chat::drain`].
    pub fn stop_connects(&self) {
        self.inner.connects_stopped.store(true, Ordering::Release);
    }

    /// Refuses new posts and clients from now on. Resolves when every accepted post has its outcome and was handed to the sockets. If the
    /// store does not answer, this takes as long as posts may wait: about ten seconds.
    pub async fn drain(&self) {
        self.inner.draining.store(true, Ordering::Release);
        if self.inner.rooms.send(SettleAll).await.is_err() {
            tracing::debug!("room registry stopped before the drain");
        }
        self.inner.broker.flush_changes().await;
        self.inner.broker.flush().await;
    }

    /// Whether the chat is ready, for `/readyz`: the room registry and the workers' shards answer, the broker makes progress, and the chat
    /// is not draining. The store has its own check: [`embedded::Database::ping`]. The caller sets the timeout.
    pub async fn is_ready(&self) -> bool {
        self.check_connects().is_ok()
            && self.inner.broker.is_open()
            && self.inner.rooms.send(rooms::Ping).await.is_ok()
            && self.inner.io.shards_alive().await > 0
    }

    /// Why the broker of a cluster does not follow its stream, as a phrase after "the log", for `/readyz`. Messages and changes are then
    /// delivered from the store. `None` if it follows.
    pub fn broker_not_ready_reason(&self) -> Option<String> {
        self.inner.broker.not_ready_reason()
    }

    /// Why the online users are unknown, as text after "presence", for `/readyz`. `None` if they are available.
    pub fn presence_degradation(&self) -> Option<String> {
        self.inner.presence.degradation()
    }

    /// The chat's own threads by name, for the watchdog.
    pub fn threads(&self) -> &[(&'static str, ArbiterHandle)] {
        &self.inner.threads
    }

    /// Refuses from [`Chat::drain`] on.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        let draining = self.inner.draining.load(Ordering::Acquire);
        if draining { Err(Error::Unavailable("the server is shutting down, try again")) } else { Ok(()) }
    }

    /// Refuses from [`Chat::stop_connects`] on.
    pub(crate) fn check_connects(&self) -> Result<(), Error> {
        self.check_open()?;
        let stopped = self.inner.connects_stopped.load(Ordering::Acquire);
        if stopped { Err(Error::Unavailable("the server is shutting down, try again")) } else { Ok(()) }
    }

    /// Counts a write over HTTP against the user's rate limit.
    pub(crate) fn check_write(&self, user: &Username) -> Result<(), Error> {
        self.check_open()?;
        let mut writes = self.inner.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = writes.take(&user.key(), Instant::now());
        taken.map_err(|retry_after| Error::RateLimited { what: "too many requests", retry_after })
    }

    /// The actor of a room. It is started if it does not run.
    pub(crate) async fn room(&self, name: &RoomName) -> Result<Addr<Room>, Error> {
        rooms::find(&self.inner.rooms, name).await
    }

    /// Asks a room. If its actor has stopped in the meantime, the room is started once more.
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
        let answer = async {
            for _ in 0..2 {
                match ask(&self.room(room).await?, question) {
                    Ok(pending) => return pending.answer().await,
                    Err(AskError::Full) => return Err(Error::full()),
                    Err(AskError::Gone(returned)) => question = returned,
                }
            }
            Err(Error::gone())
        };
        with_deadline(deadline, answer).await
    }

    /// Ends the membership of a user at the request of `by`, and the user's typing in the room.
    pub(crate) async fn remove(
        &self,
        room: &RoomName,
        (by, user): (Username, Username),
        deadline: Instant,
    ) -> Result<(), Error> {
        self.ask(room, Change(Request::removal(by, user.clone())), deadline).await?;
        self.presence().typing(&user, room, false);
        Ok(())
    }

    /// Waits for a turn to read a large answer from the store. The answer stays in memory until it is sent, so the number of turns is
    /// limited. Hold the turn until the answer is in the send queue.
    pub(crate) async fn read_turn(&self, user: &Username) -> Result<Turn<'_>, Error> {
        self.inner.read_turns.take(user).await
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

    pub(crate) fn tickets(&self) -> &TicketKey {
        &self.inner.tickets
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

    pub(crate) fn socket_quota(&self) -> &SocketQuota {
        &self.inner.socket_quota
    }

    pub(crate) fn reconnects(&self) -> &LastReadPositions {
        &self.inner.reconnects
    }

    pub(crate) fn connect_turns(&self) -> &Turns {
        &self.inner.connect_turns
    }
}

/// The deadline of the answer to a request that arrives now: [`ANSWER_DEADLINE`] from now.
pub(crate) fn deadline_now() -> Instant {
    Instant::now() + ANSWER_DEADLINE
}

/// Awaits `future` until `deadline`.
///
/// # Errors
/// The future's own, or [`Error::Unavailable`] at the deadline.
pub(crate) async fn with_deadline<T>(
    deadline: Instant,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout_at(deadline.into(), future).await.unwrap_or_else(|_| Err(Error::late()))
}

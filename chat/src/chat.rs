//! The chat as a whole: started once by the binary, shared by all workers, called by guests and HTTP handlers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use actix::{Addr, Arbiter, Handler};
use proto::{RoomName, Username};
use sessions::SharedSessions;
use socketio::Bus;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout_at,
};

use crate::{
    Config, Error,
    ask::{Ask, Question, Unasked, ask},
    bucket::{Buckets, Rate},
    config::ANSWER_DEADLINE,
    crowd::{self, Shown},
    directory::Directory,
    guest::Guests,
    history::History,
    log::{Log, local},
    presence::{Heard, Presence},
    revocation,
    room::{Parts, Room},
    rooms::{self, Rooms, SettleAll},
    seats::Seats,
};

/// What the chat is made of.
pub struct Deps {
    /// Messages; see [`crate::Store::history`].
    pub history: Arc<dyn History>,
    /// Rooms and members; see [`crate::Store::directory`].
    pub directory: Arc<dyn Directory>,
    /// Who is logged in.
    pub sessions: SharedSessions,
    /// The way to the sockets; the same one that the `socketio::Server` gets.
    pub bus: Bus,
    /// Limits and addresses.
    pub config: Config,
}

/// The running chat. Cheap to clone.
#[derive(Clone)]
pub struct Chat {
    inner: Arc<Inner>,
}

/// See [`Chat`].
struct Inner {
    config: Config,
    history: Arc<dyn History>,
    directory: Arc<dyn Directory>,
    sessions: SharedSessions,
    rooms: Addr<Rooms>,
    log: Log,
    presence: Presence,
    /// What newcomers are shown of who is here.
    shown: watch::Receiver<Shown>,
    seats: Seats,
    /// What each user may still write over HTTP.
    writes: Mutex<Buckets>,
    draining: AtomicBool,
}

/// The most updates from the presence service that wait to be told.
const HEARD: usize = 64;

/// Starts the chat on two threads of its own, so that neither rooms nor log ever wait for an HTTP worker: one for the rooms,
/// one for what goes outward (log, presence, revocation). Needs a running actix `System`.
///
/// # Errors
/// When the store does not answer or the presence service's address is none. The service itself need not be there yet.
pub async fn start(deps: Deps) -> Result<Chat, Error> {
    let Deps { history, directory, sessions, bus, config } = deps;
    let (log, entries) = Log::open(&*history).await?;
    let parts = Parts {
        history: history.clone(),
        directory: directory.clone(),
        log: log.clone(),
        rooms_per_user: config.rooms_per_user,
    };
    let rooms = on(&Arbiter::new(), move || rooms::start(parts)).await?;
    let outward = Arbiter::new();
    let (presence, shown) = {
        let (log, bus, config) = (log.clone(), bus.clone(), config.clone());
        on(&outward, move || start_outward(&log, entries, bus, &config)).await??
    };
    let seats = Seats::new(config.sockets_per_user);
    outward.spawn(revocation::watch(sessions.clone(), seats.clone(), bus));
    let writes = Mutex::new(Buckets::new(Rate::new(config.message_rate, config.message_burst)));
    let draining = AtomicBool::new(false);
    let inner =
        Inner { config, history, directory, sessions, rooms, log, presence, shown, seats, writes, draining };
    Ok(Chat { inner: Arc::new(inner) })
}

fn start_outward(
    log: &Log,
    entries: mpsc::Receiver<crate::log::Entry>,
    bus: Bus,
    config: &Config,
) -> Result<(Presence, watch::Receiver<Shown>), Error> {
    local::start(log, entries, bus);
    let (tell, heard) = mpsc::channel::<Heard>(HEARD);
    let presence = Presence::start(&config.presence_url, config.node_name(), tell)
        .map_err(|error| Error::BadRequest(format!("--presence-url is no address: {error}")))?;
    let (show, shown) = watch::channel(crowd::nobody_knows());
    actix_rt::spawn(crowd::relay(heard, log.clone(), show));
    Ok((presence, shown))
}

/// Runs `start` on another thread and brings back what it made.
async fn on<T: Send + 'static>(
    arbiter: &Arbiter,
    start: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (made, answer) = oneshot::channel();
    arbiter.spawn_fn(move || drop(made.send(start())));
    answer.await.map_err(|_| Error::Unavailable("a thread of the chat did not start"))
}

impl Chat {
    /// The application for a `socketio::Server`.
    pub fn app(&self) -> Guests {
        Guests::new(self.clone())
    }

    /// Refuses new posts and sockets from now on; resolves when every accepted post has its outcome and was handed to the
    /// sockets. With a store that does not answer this takes as long as posts may wait, some ten seconds.
    pub async fn drain(&self) {
        self.inner.draining.store(true, Ordering::Release);
        if self.inner.rooms.send(SettleAll).await.is_err() {
            tracing::debug!("rooms ended before they were drained");
        }
        self.inner.log.flush().await;
    }

    /// Whether the chat can do its work, for `/readyz`: its actors run and it is not being drained. The store answers for
    /// itself: [`crate::Store::is_writable`].
    pub fn is_ready(&self) -> bool {
        self.inner.rooms.connected() && self.inner.log.is_open() && self.check_open().is_ok()
    }

    /// Refuses while [`Chat::drain`] is under way.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        let draining = self.inner.draining.load(Ordering::Acquire);
        if draining { Err(Error::Unavailable("the server is shutting down, try again")) } else { Ok(()) }
    }

    /// Counts a write over HTTP against its user's limit.
    pub(crate) fn check_write(&self, user: &Username) -> Result<(), Error> {
        self.check_open()?;
        let mut writes = self.inner.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = writes.take(&user.key(), Instant::now());
        taken.map_err(|retry_after| Error::RateLimited { what: "too many requests", retry_after })
    }

    /// The actor of a room.
    pub(crate) async fn room(&self, name: &RoomName) -> Result<Addr<Room>, Error> {
        rooms::find(&self.inner.rooms, name).await
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
        within(deadline, answered).await
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

    pub(crate) fn sessions(&self) -> &SharedSessions {
        &self.inner.sessions
    }

    pub(crate) fn log(&self) -> &Log {
        &self.inner.log
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.inner.presence
    }

    /// Who is here, as a newcomer is shown it.
    pub(crate) fn shown(&self) -> Shown {
        self.inner.shown.borrow().clone()
    }

    pub(crate) fn seats(&self) -> &Seats {
        &self.inner.seats
    }
}

/// When an answer to what came in now is due.
pub(crate) fn due() -> Instant {
    Instant::now() + ANSWER_DEADLINE
}

/// Waits for `work`, until `deadline` at most.
pub(crate) async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(Error::late()))
}

//! Starting the chat: which part runs on which thread. Called once by the binary.

use std::{
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use actix::{Addr, Arbiter};
use sessions::SharedSessions;
use socketio::{CloseReason, Io};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Chat, Config, Error,
    broker::{
        Broker, Entry, fanout_actor,
        stream::{self, News, Opened},
    },
    bucket::{Buckets, Rate},
    chat::Inner,
    directory::{Additions, Directory},
    history::{History, Journal},
    online::{self, OnlineList},
    presence::{Node, Presence, PresenceUpdate},
    reconnects::LastReadPositions,
    recovery_sessions::RecoverySessions,
    revocation,
    room::Parts,
    rooms::{self, Refresh, RefreshAll, Rooms},
    socket_quota::SocketQuota,
    turns::Turns,
    user_lookup::UserLookup,
};

/// What the chat is made of.
pub struct Deps {
    /// Messages; see [`crate::Store::history`].
    pub history: Arc<dyn History>,
    /// The order of messages.
    pub order: Order,
    /// Rooms and members; see [`crate::Store::directory`].
    pub directory: Arc<dyn Directory>,
    /// Who may come back; see [`crate::Store::recovery_sessions`].
    pub recovery_sessions: Arc<dyn RecoverySessions>,
    /// Who is registered.
    pub user_lookup: Arc<dyn UserLookup>,
    /// Who is logged in.
    pub sessions: SharedSessions,
    /// The way to the sockets; the same one that the `socketio::Server` gets.
    pub io: Io,
    /// Limits and addresses.
    pub config: Config,
}

/// Who keeps the order of all rooms' messages.
pub enum Order {
    /// The store of messages itself; see [`crate::Store::journal`].
    Store(Arc<dyn Journal>),
    /// A stream that many nodes share; see [`crate::broker::Stream::open`].
    Stream(Opened),
}

/// How many clients may come in at the same time; each reads two stores, whose queues are four times this long.
const DOOR: usize = 256;

/// How many large answers are read at the same time: some 10 MiB of them.
const READING: usize = 32;

/// How often one user may add others to rooms.
const ADDITIONS: Rate = Rate { per_second: 1.0, burst: 100.0 };
/// When the store was replaced, sockets are closed in so many steps, for their clients to reload.
const RELOAD_STEPS: u32 = 10;

/// Between two of those steps.
const RELOAD_PAUSE: Duration = Duration::from_millis(100);

/// The most updates from the presence service that wait to be told.
const HEARD: usize = 64;

/// Starts the chat on two threads of its own, so that neither rooms nor log ever wait for an HTTP worker: one for the rooms,
/// one for what goes outward (log, presence, revocation). Needs a running actix `System`.
///
/// # Errors
/// When the store does not answer or the presence service's address is none. The service itself need not be there yet.
pub async fn start(deps: Deps) -> Result<Chat, Error> {
    let Deps { history, order, directory, recovery_sessions, user_lookup, sessions, io, config } = deps;
    let (broker, entries, shared) = match order {
        Order::Store(journal) => {
            let (broker, entries) = Broker::open(journal).await?;
            (broker, entries, None)
        }
        Order::Stream(opened) => {
            let (broker, entries, to) = Broker::shared(&opened);
            (broker, entries, Some((opened, to)))
        }
    };
    let parts = Parts {
        history: history.clone(),
        directory: directory.clone(),
        broker: broker.clone(),
        rooms_per_user: config.rooms_per_user,
        additions: Additions { per_user: config.rooms_per_user, per_adder: config.additions_per_user },
    };
    let (inward, outward) = (Arbiter::new(), Arbiter::new());
    let rooms = on(&inward, move || rooms::start(parts)).await?;
    let (presence, shown) = {
        let (broker, io, config) = (broker.clone(), io.clone(), config.clone());
        on(&outward, move || start_outward(&broker, entries, io, &config)).await??
    };
    let reconnects = Arc::new(LastReadPositions::new());
    if let Some((opened, to)) = shared {
        let tell = reporter(rooms.clone(), reconnects.clone(), io.clone());
        outward.spawn(supervision::essential("log follower", stream::follow(opened, to, tell)));
    }
    let socket_quota = SocketQuota::new(config.sockets_per_user);
    watch_sockets(&outward, sessions.clone(), socket_quota.clone(), io.clone());
    let writes = Mutex::new(Buckets::new(Rate::new(config.message_rate, config.message_burst)));
    let inner = Inner {
        config,
        history,
        directory,
        recovery_sessions,
        user_lookup,
        sessions,
        rooms,
        broker,
        io,
        presence,
        shown,
        socket_quota,
        reconnects,
        door: Turns::new(DOOR),
        reading: Turns::new(READING),
        writes,
        additions: Mutex::new(Buckets::new(ADDITIONS)),
        connects_stopped: AtomicBool::new(false),
        draining: AtomicBool::new(false),
        threads: [("rooms", inward.handle()), ("outward", outward.handle())],
    };
    Ok(inner.into())
}

/// Watches the workers' shards and the sessions that close.
fn watch_sockets(outward: &Arbiter, sessions: SharedSessions, socket_quota: SocketQuota, io: Io) {
    outward.spawn(supervision::essential("shard", io.shard_ended()));
    outward.spawn(supervision::restart("revocation", move || {
        revocation::watch(sessions.closings(), sessions.clone(), socket_quota.clone(), io.clone())
    }));
}

/// What is done when the log of a cluster has news of other nodes or of the store.
fn reporter(rooms: Addr<Rooms>, reconnects: Arc<LastReadPositions>, sockets: Io) -> stream::Tell {
    Box::new(move |news| match news {
        News::Changed(room) => rooms.do_send(Refresh(room)),
        News::Returned(socket) => reconnects.forget(&socket),
        News::Replaced => {
            rooms.do_send(RefreshAll);
            let sockets = sockets.clone();
            actix_rt::spawn(async move {
                sockets.close_all(CloseReason::ServerClose, RELOAD_STEPS, RELOAD_PAUSE).await;
            });
        }
    })
}

fn start_outward(
    broker: &Broker,
    entries: mpsc::Receiver<Entry>,
    io: Io,
    config: &Config,
) -> Result<(Presence, watch::Receiver<OnlineList>), Error> {
    fanout_actor::start(broker, entries, io);
    let (tell, heard) = mpsc::channel::<PresenceUpdate>(HEARD);
    let refused =
        |why: &dyn std::fmt::Display| Error::BadRequest(format!("--presence-url is refused: {why}"));
    if !config.presence_url.starts_with("http://") {
        return Err(refused(&"expected an address such as http://127.0.0.1:50051"));
    }
    let node = Node { name: config.node_name(), deployment: config.deployment.clone() };
    let presence = Presence::start(&config.presence_url, node, tell).map_err(|error| refused(&error))?;
    let (show, shown) = watch::channel(OnlineList::Unknown);
    actix_rt::spawn(supervision::essential("presence relay", online::relay(heard, broker.clone(), show)));
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

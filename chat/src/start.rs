//! The start of the chat, and the assignment of its parts to threads. Called once by the binary.

use std::sync::{Arc, Mutex, atomic::AtomicBool};

use actix::{Addr, Arbiter};
use proto::signature::Key;
use sessions::SharedSessions;
use socketio::Io;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Chat, Config, Error,
    broker::{
        Broker, Entry, fanout_actor,
        stream::{self, Opened, RemoteChange},
    },
    bucket::{Buckets, Rate},
    chat::Inner,
    config::check_presence_url,
    directory::{Directory, Limits},
    history::{History, Journal},
    presence::Presence,
    reconnects::LastReadPositions,
    recovery_ticket::TicketKey,
    revocation,
    room::Parts,
    rooms::{self, Refresh, RefreshAll, Rooms},
    socket_quota::SocketQuota,
    turns::Turns,
    user_lookup::UserLookup,
};

/// The dependencies of the chat.
pub struct Deps {
    /// The store of messages, for example [`crate::SqliteStore::history`].
    pub history: Arc<dyn History>,
    /// The order of messages.
    pub order: Order,
    /// The store of rooms and members, for example [`crate::SqliteStore::directory`].
    pub directory: Arc<dyn Directory>,
    /// The key of recovery tickets, the same on all nodes and after a restart, for example [`crate::SqliteStore::secret`].
    pub ticket_key: Key,
    /// The registered users.
    pub user_lookup: Arc<dyn UserLookup>,
    /// The login sessions.
    pub sessions: SharedSessions,
    /// The sockets. The `socketio::Server` must have the same handle.
    pub io: Io,
    /// Limits and addresses.
    pub config: Config,
}

/// The source of the order of all rooms' messages.
pub enum Order {
    /// The store of messages of a single node, for example [`crate::SqliteStore::journal`].
    Store(Arc<dyn Journal>),
    /// A stream that all nodes of a cluster share, opened by [`crate::broker::Stream::open`].
    Stream(Opened),
}

/// The maximum number of concurrent CONNECTs. Each reads two stores, whose queues are four times as long.
const CONNECT_TURNS: usize = 256;

/// The maximum number of large answers that are read at the same time: about 10 MiB.
const READ_TURNS: usize = 32;

/// The maximum number of queued signals of the presence client.
const PRESENCE_SIGNALS: usize = 64;

/// Starts the chat on two threads of its own: one for the rooms, and one for the broker, presence and revocation. So neither rooms nor
/// broker wait for an HTTP worker. Needs a running actix `System`.
///
/// # Errors
/// When the store does not answer, or when the presence service's address is invalid. The service does not have to be reachable.
pub async fn start(deps: Deps) -> Result<Chat, Error> {
    let Deps { history, order, directory, ticket_key, user_lookup, sessions, io, config } = deps;
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
        limits: Limits {
            rooms_per_user: config.rooms_per_user,
            additions_per_user: config.additions_per_user,
        },
    };
    let (inward, outward) = (Arbiter::new(), Arbiter::new());
    let rooms = run_on(&inward, move || rooms::start(parts)).await?;
    let presence = {
        let (broker, io, config) = (broker.clone(), io.clone(), config.clone());
        run_on(&outward, move || start_outward(&broker, entries, io, &config)).await??
    };
    let reconnects = Arc::new(LastReadPositions::new());
    if let Some((opened, to)) = shared {
        let on_news = news_handler(rooms.clone(), reconnects.clone());
        outward.spawn(supervision::essential("log follower", stream::follow(opened, to, on_news)));
    }
    let socket_quota = SocketQuota::new(config.sockets_per_user);
    watch_sockets(&outward, sessions.clone(), socket_quota.clone(), io.clone());
    let writes = Mutex::new(Buckets::new(Rate::new(config.message_rate, config.message_burst)));
    let inner = Inner {
        config,
        history,
        directory,
        tickets: TicketKey::new(ticket_key),
        user_lookup,
        sessions,
        rooms,
        broker,
        io,
        presence,
        socket_quota,
        reconnects,
        connect_turns: Turns::new(CONNECT_TURNS),
        read_turns: Turns::new(READ_TURNS),
        writes,
        connects_stopped: AtomicBool::new(false),
        draining: AtomicBool::new(false),
        threads: [("rooms", inward.handle()), ("outward", outward.handle())],
    };
    Ok(inner.into())
}

/// Watches the workers' shards and the sessions that are revoked.
fn watch_sockets(outward: &Arbiter, sessions: SharedSessions, socket_quota: SocketQuota, io: Io) {
    outward.spawn(supervision::essential("shard", io.shard_ended()));
    outward.spawn(supervision::restart("revocation", move || {
        revocation::watch(sessions.closings(), sessions.clone(), socket_quota.clone(), io.clone())
    }));
}

/// Handles changes of other nodes that the stream of a cluster reports.
fn news_handler(rooms: Addr<Rooms>, reconnects: Arc<LastReadPositions>) -> stream::OnRemoteChange {
    Box::new(move |news| match news {
        RemoteChange::RoomChanged(room) => rooms.do_send(Refresh(room)),
        RemoteChange::SocketSuperseded(socket) => _ = reconnects.take(&socket),
        RemoteChange::AnyRoomChanged => rooms.do_send(RefreshAll),
    })
}

fn start_outward(
    broker: &Broker,
    entries: mpsc::Receiver<Entry>,
    io: Io,
    config: &Config,
) -> Result<Presence, Error> {
    fanout_actor::start(broker, entries, io);
    check_presence_url(&config.presence_url).map_err(Error::BadRequest)?;
    let (sender, mut signals) = mpsc::channel(PRESENCE_SIGNALS);
    let presence = Presence::start(&config.presence_url, config.node_name(), sender)
        .map_err(|error| Error::BadRequest(format!("--presence-url is refused: {error}")))?;
    let broker = broker.clone();
    actix_rt::spawn(supervision::essential("presence relay", async move {
        while let Some(signal) = signals.recv().await {
            broker.send(signal).await;
        }
    }));
    Ok(presence)
}

/// Runs `start` on the thread of `arbiter` and returns its result.
async fn run_on<T: Send + 'static>(
    arbiter: &Arbiter,
    start: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (sender, result) = oneshot::channel();
    arbiter.spawn_fn(move || drop(sender.send(start())));
    result.await.map_err(|_| Error::Unavailable("a thread of the chat did not start"))
}

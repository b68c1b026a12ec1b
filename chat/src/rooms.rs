//! The registry of a node's live rooms by name. It starts requested rooms and removes idle ones. Clients and HTTP [`find`] a room here and
//! then call the room itself; chat messages do not pass through the registry.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use futures_util::future::join_all;
use proto::RoomName;
use supervision::Part;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    Error,
    ask::{self, AskError},
    config::STORE_DEADLINE,
    room::{Idle, Parts, Reload, Room, Settle, Stop},
};

/// The actor that owns the registry.
pub struct Rooms {
    parts: Parts,
    rooms: HashMap<RoomName, Slot>,
    _alive: Part,
}

/// A room on this node.
enum Slot {
    /// The room is being loaded from its stores. Contains the callers that wait for it.
    Starting(Vec<oneshot::Sender<Found>>),
    /// The room is running.
    Live(Addr<Room>),
}

type Found = Result<Addr<Room>, Error>;

/// Request for the room of this name. Starts the room if it is not live.
#[derive(Message)]
#[rtype(result = "Found")]
struct Find(RoomName);

/// Notification that another node has changed this room.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Refresh(pub RoomName);

/// Notification that every room may have changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RefreshAll;

/// Request that resolves when all posts accepted by live rooms have an outcome.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SettleAll;

/// Request that is answered while the registry works.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ping;

/// Starts the registry on the current arbiter.
pub fn start(parts: Parts) -> Addr<Rooms> {
    ask::start(|_| Rooms { parts, rooms: HashMap::new(), _alive: Part::new("rooms") })
}

/// Returns the room of this name. It is started if it is not live.
///
/// # Errors
/// [`Error::NotFound`] when there is no such room, [`Error::Store`] or [`Error::Unavailable`] when it cannot be loaded.
pub async fn find(rooms: &Addr<Rooms>, name: &RoomName) -> Found {
    match timeout(STORE_DEADLINE, rooms.send(Find(name.clone()))).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => Err(Error::gone()),
        Err(_) => Err(Error::late()),
    }
}

impl Actor for Rooms {
    type Context = Context<Self>;

    #[cfg(debug_assertions)]
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(supervision::fault::wait("rooms").into_actor(self));
    }
}

impl Handler<Ping> for Rooms {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<Find> for Rooms {
    type Result = ResponseFuture<Found>;

    fn handle(&mut self, Find(name): Find, ctx: &mut Self::Context) -> Self::Result {
        let (found, answer) = oneshot::channel();
        match self.rooms.get_mut(&name) {
            Some(Slot::Live(room)) if room.connected() => {
                let room = room.clone();
                return Box::pin(std::future::ready(Ok(room)));
            }
            Some(Slot::Starting(waiting)) => waiting.push(found),
            _ => {
                self.rooms.insert(name.clone(), Slot::Starting(vec![found]));
                self.load(name, ctx);
            }
        }
        Box::pin(async { answer.await.unwrap_or_else(|_| Err(Error::gone())) })
    }
}

impl Handler<Idle> for Rooms {
    type Result = ();

    fn handle(&mut self, Idle { name, room }: Idle, _: &mut Self::Context) {
        if matches!(self.rooms.get(&name), Some(Slot::Live(current)) if *current == room) {
            self.rooms.remove(&name);
        }
        room.do_send(Stop);
    }
}

impl Handler<Refresh> for Rooms {
    type Result = ();

    fn handle(&mut self, Refresh(name): Refresh, _: &mut Self::Context) {
        if let Some(Slot::Live(room)) = self.rooms.get(&name) {
            room.do_send(Reload);
        }
    }
}

impl Handler<RefreshAll> for Rooms {
    type Result = ();

    fn handle(&mut self, _: RefreshAll, _: &mut Self::Context) {
        for slot in self.rooms.values() {
            if let Slot::Live(room) = slot {
                room.do_send(Reload);
            }
        }
    }
}

impl Handler<SettleAll> for Rooms {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: SettleAll, _: &mut Self::Context) -> Self::Result {
        let live = self.rooms.values().filter_map(|slot| match slot {
            Slot::Live(room) => Some(room.clone()),
            Slot::Starting(_) => None,
        });
        let pending: Vec<_> = live.map(settle).collect();
        Box::pin(async { drop(join_all(pending).await) })
    }
}

/// Waits until all accepted posts of a room have an outcome. Retries while the room's mailbox is full.
async fn settle(room: Addr<Room>) {
    loop {
        match ask::ask(&room, Settle) {
            Ok(pending) => return drop(pending.answer().await),
            Err(AskError::Gone(_)) => return,
            Err(AskError::Full) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

impl Rooms {
    /// Loads a room from its stores and starts it. If that fails, the room is removed and the waiting callers receive the error.
    fn load(&mut self, name: RoomName, ctx: &mut Context<Self>) {
        let (parts, room, begun) = (self.parts.clone(), name.clone(), Instant::now());
        let loading = async move {
            let record = parts.directory.find(&room).await?.ok_or(Error::NotFound)?;
            Ok((record, parts.history.head(&room).await?))
        };
        let loading =
            async move { timeout(STORE_DEADLINE, loading).await.unwrap_or_else(|_| Err(Error::late())) };
        ctx.spawn(loading.into_actor(self).map(move |loaded, rooms, ctx| {
            let found: Found = loaded.map(|(record, head)| {
                let (parts, idle) = (rooms.parts.clone(), ctx.address().recipient());
                ask::start(|_| Room::new(record, head, begun, parts, idle))
            });
            let waiting = match &found {
                Ok(room) => rooms.rooms.insert(name, Slot::Live(room.clone())),
                Err(_) => rooms.rooms.remove(&name),
            };
            if let Some(Slot::Starting(waiting)) = waiting {
                waiting.into_iter().for_each(|caller| drop(caller.send(found.clone())));
            }
        }));
    }
}

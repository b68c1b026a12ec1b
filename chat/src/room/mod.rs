//! The actor of one room. It owns the member list and the room's head, and it is the only writer of the room's messages on this node.
//! [`crate::rooms`] starts it, clients and HTTP [ask](crate::ask) it. It writes to history and directory, and the broker publishes what
//! they commit.
//!
//! Each feature has its own file: [`posts`] (with [`batch`]), [`change`], [`membership`] and [`settings`] (with [`revalidate`]),
//! [`retention`]. [`members`] and [`queue`] are plain values.

pub(crate) mod batch;
pub mod change;
pub mod members;
pub mod membership;
pub mod post;
pub mod posts;
mod queue;
pub mod retention;
mod revalidate;
pub mod settings;
#[cfg(test)]
mod tests;

pub use change::{Change, Reload};

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient};
use proto::{
    RoomName, Username,
    event::{Act, Settings},
};

use crate::{
    Error,
    ask::{Ask, Question},
    broker::Broker,
    directory::{Directory, Limits, RoomRecord},
    history::{History, RoomHead},
};
use members::Members;
use posts::Posts;
use revalidate::Revalidation;

/// The dependencies and limits of all rooms.
#[derive(Clone)]
pub struct Parts {
    /// The store of messages.
    pub history: Arc<dyn History>,
    /// The store of rooms and members.
    pub directory: Arc<dyn Directory>,
    /// Publishes committed messages and changes.
    pub broker: Broker,
    /// The limits on memberships.
    pub limits: Limits,
}

/// The actor.
pub struct Room {
    name: RoomName,
    settings: Settings,
    /// The number of the last change up to which this actor's state is complete.
    rev: u64,
    /// The begin of the read of the store that this actor's state is from.
    read_at: Instant,
    /// When this actor last heard of a change that its state may lack.
    changed_at: Instant,
    state: State,
    /// Questions that wait for a read of the store.
    revalidation: Revalidation,
    members: Members,
    posts: Posts,
    parts: Parts,
    /// Receives [`Idle`] when the room has nothing to do.
    idle: Recipient<Idle>,
    used: Instant,
    _gauge: RoomGauge,
}

/// Counts a room in the metrics until it is dropped, also by a panic.
struct RoomGauge;

/// Whether a room accepts questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Answers as if the room did not exist.
    Archived,
    /// Another actor may have replaced this one. It finishes the accepted posts and accepts nothing new.
    Stopping,
}

/// The room has been idle for [`IDLE`]. The room registry replies with [`Stop`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct Idle {
    /// The room's name.
    pub name: RoomName,
    /// The actor that sends the message. The registry may have replaced it with another one.
    pub room: Addr<Room>,
}

/// The registry has removed the room: no new questions will arrive.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Waits until all posts that were accepted before have their outcome.
pub struct Settle;

/// The interval of the idle check and of trimming an ephemeral room.
const SWEEP: Duration = Duration::from_secs(60);

/// How long a room actor runs without a question. Sockets may stay in the room: the broker delivers to them, and the next post starts
/// the actor again.
const IDLE: Duration = Duration::from_secs(300);

impl Question for Settle {
    type Answer = ();
}

impl Room {
    /// A room with the state that was read from the stores. The read began at `read_at`.
    pub fn new(
        entry: RoomRecord,
        head: RoomHead,
        read_at: Instant,
        parts: Parts,
        idle: Recipient<Idle>,
    ) -> Self {
        Self {
            name: entry.room_info.name.clone(),
            settings: entry.room_info.settings.clone(),
            rev: entry.rev,
            read_at,
            changed_at: read_at,
            state: State::Open,
            revalidation: Revalidation::default(),
            members: Members::new(entry),
            posts: Posts::new(head),
            parts,
            idle,
            used: Instant::now(),
            _gauge: RoomGauge::new(),
        }
    }

    /// Records a use of the room by `user`, and checks that the user may do `act`.
    fn check(&mut self, user: &Username, act: Act) -> Result<(), Error> {
        self.check_open()?;
        self.members.check(user, act, &self.settings)
    }

    /// Records a use of the room, and refuses it if the room is archived or stopping.
    fn check_open(&mut self) -> Result<(), Error> {
        self.used = Instant::now();
        match self.state {
            State::Open => Ok(()),
            State::Archived => Err(Error::NotFound),
            State::Stopping => Err(Error::gone()),
        }
    }

    fn sweep(&mut self, ctx: &mut Context<Self>) {
        if self.settings.ephemeral {
            self.trim(ctx);
        }
        if self.used.elapsed() >= IDLE && self.posts.is_settled() {
            // If the registry's mailbox is full, the next sweep sends the message again.
            let _ = self.idle.try_send(Idle { name: self.name.clone(), room: ctx.address() });
        }
    }

    /// Stops the actor if it is stopping and every accepted post has its outcome.
    fn stop_if_settled(&mut self, ctx: &mut Context<Self>) {
        if self.state == State::Stopping && self.posts.is_settled() {
            ctx.stop();
        }
    }
}

impl Actor for Room {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.settings.ephemeral {
            self.trim(ctx);
        }
        ctx.run_interval(SWEEP, Self::sweep);
    }
}

impl RoomGauge {
    fn new() -> Self {
        metrics::gauge!("godzilla_chat_rooms").increment(1.0);
        Self
    }
}

impl Drop for RoomGauge {
    fn drop(&mut self) {
        metrics::gauge!("godzilla_chat_rooms").decrement(1.0);
    }
}

impl Handler<Stop> for Room {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.state = State::Stopping;
        self.stop_if_settled(ctx);
    }
}

impl Handler<Ask<Settle>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Settle>, _: &mut Self::Context) {
        self.posts.settle(ask.reply);
    }
}

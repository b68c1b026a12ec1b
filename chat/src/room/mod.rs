//! One room: the truth of who is in it and what comes next, and the only writer of its messages. [`crate::Rooms`] starts
//! it, clients and HTTP [ask](crate::ask) it; it writes history and directory, and what they commit goes into the log.
//!
//! A feature a file: [`posts`] (and [`batch`]), [`membership`] and [`settings`] (and [`change`], [`doubt`]),
//! [`retention`]; [`members`] and [`queue`] are
//! values.

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

pub use change::Reload;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient};
use proto::RoomName;

use crate::{
    Error,
    ask::{Ask, Question},
    broker::Broker,
    directory::{Additions, Directory, Entry},
    history::{Head, History},
};
use members::Members;
use posts::Posts;
use revalidate::Revalidation;

/// What rooms are made with.
#[derive(Clone)]
pub struct Parts {
    /// Where messages go.
    pub history: Arc<dyn History>,
    /// Where memberships go.
    pub directory: Arc<dyn Directory>,
    /// Where what was committed is told.
    pub broker: Broker,
    /// See [`crate::Config::rooms_per_user`].
    pub rooms_per_user: usize,
    /// What may be done to user_lookup by others.
    pub additions: Additions,
}

/// The actor.
pub struct Room {
    name: RoomName,
    ephemeral: bool,
    state: State,
    /// A change's outcome was unknown once, so every later one is followed by a look into the directory.
    doubtful: bool,
    /// Refusals that wait for such a look, because another node may have changed the room.
    doubts: Revalidation,
    members: Members,
    posts: Posts,
    parts: Parts,
    /// Told when the room has nothing to do.
    idle: Recipient<Idle>,
    used: Instant,
    _counted: Counted,
}

/// A room in the metrics, until it is dropped: also by a panic.
struct Counted;

/// Whether a room answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// As good as absent.
    Archived,
    /// Its place may be taken by another actor: it finishes what it accepted and nothing more.
    Stopping,
}

/// A room has had nothing to do for a while; its keeper answers with [`Stop`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct Idle {
    /// Its name.
    pub name: RoomName,
    /// The actor, which may not be the room's only one any more.
    pub room: Addr<Room>,
}

/// Nobody is sent to this room any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Answers once all posts that were accepted so far have their outcome.
pub struct Settle;

/// How often a room looks whether it is idle, and an ephemeral one what it may forget.
const SWEEP: Duration = Duration::from_secs(60);

/// How long a room that nobody asks anything stays. Sockets may be in it all the while: those are the log's business, and
/// the next post starts it again.
const IDLE: Duration = Duration::from_secs(300);

impl Question for Settle {
    type Answer = ();
}

impl Room {
    /// A room as its stores have it.
    pub fn new(entry: Entry, head: Head, parts: Parts, idle: Recipient<Idle>) -> Self {
        Self {
            name: entry.room_info.name.clone(),
            ephemeral: entry.room_info.ephemeral,
            state: State::Open,
            doubtful: false,
            doubts: Revalidation::default(),
            members: Members::new(entry),
            posts: Posts::new(head),
            parts,
            idle,
            used: Instant::now(),
            _counted: Counted::new(),
        }
    }

    /// Marks the room as used and refuses what is asked of one that is over.
    fn open(&mut self) -> Result<(), Error> {
        self.used = Instant::now();
        match self.state {
            State::Open => Ok(()),
            State::Archived => Err(Error::NotFound),
            State::Stopping => Err(Error::gone()),
        }
    }

    fn sweep(&mut self, ctx: &mut Context<Self>) {
        if self.ephemeral {
            self.trim(ctx);
        }
        if self.doubtful || self.parts.broker.is_shared() {
            self.reload(ctx);
        }
        if self.used.elapsed() >= IDLE && self.posts.is_settled() {
            // A keeper whose mailbox is full hears of it with the next sweep.
            let _ = self.idle.try_send(Idle { name: self.name.clone(), room: ctx.address() });
        }
    }

    /// Stops when that is due and everything accepted has its outcome.
    fn stop_if_settled(&mut self, ctx: &mut Context<Self>) {
        if self.state == State::Stopping && self.posts.is_settled() {
            ctx.stop();
        }
    }
}

impl Actor for Room {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.ephemeral {
            self.trim(ctx);
        }
        ctx.run_interval(SWEEP, Self::sweep);
    }
}

impl Counted {
    fn new() -> Self {
        metrics::gauge!("godzilla_chat_rooms").increment(1.0);
        Self
    }
}

impl Drop for Counted {
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

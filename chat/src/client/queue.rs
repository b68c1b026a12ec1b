//! What one client wants, done in the order in which it asked. Posts only wait to be accepted in that order, so many of them
//! may be on their way; everything else is finished before the next one begins.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

use actix::Addr;
use proto::{RoomName, Username};
use serde::Serialize;
use socketio::Socket;

use super::{ack::Ack, events::Command, task, typing_throttle::TypingThrottle};
use crate::{Chat, Error, chat::with_deadline, room::Room};

/// The most commands that wait for their turn; acks are bounded apart from this.
const WAITING: usize = 128;

/// What everything that happens for a client shares. It may outlive the connection by the time an answer takes.
pub struct CommandQueue {
    chat: Chat,
    socket: Socket,
    user: Username,
    /// Rooms posted to, so that the keeper is asked once for each.
    rooms: RefCell<HashMap<RoomName, Addr<Room>>>,
    waiting: RefCell<VecDeque<Turn>>,
    /// Whether somebody empties `waiting`.
    busy: Cell<bool>,
    typist: RefCell<TypingThrottle>,
    /// The rooms that the client has loaded anew, where it came with a place in a history that was replaced.
    replaced: Option<RefCell<HashSet<RoomName>>>,
}

/// A command that waits.
struct Turn {
    command: Command,
    ack: Ack,
    deadline: Instant,
}

impl CommandQueue {
    /// A visit of `user` through `socket`. `replaced` means that the client came with a place in a history that this one has
    /// replaced.
    pub fn new(chat: Chat, socket: Socket, user: Username, replaced: bool) -> Self {
        Self {
            chat,
            socket,
            user,
            rooms: RefCell::default(),
            waiting: RefCell::default(),
            busy: Cell::new(false),
            typist: RefCell::new(TypingThrottle::new(Instant::now())),
            replaced: replaced.then(RefCell::default),
        }
    }

    /// The chat.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// The client's socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The session's user.
    pub fn user(&self) -> &Username {
        &self.user
    }

    /// What is left of a typing user's patience.
    pub fn typist(&self) -> &RefCell<TypingThrottle> {
        &self.typist
    }

    /// Whether what the client has of this room is of a history that was replaced.
    pub fn is_replaced(&self, room: &RoomName) -> bool {
        self.replaced.as_ref().is_some_and(|loaded| !loaded.borrow().contains(room))
    }

    /// The client loads this room anew.
    pub fn reloads(&self, room: &RoomName) {
        if let Some(loaded) = &self.replaced {
            loaded.borrow_mut().insert(room.clone());
        }
    }

    /// Does `command` when those before it are done, and answers by `deadline` in any case.
    pub fn submit(self: &Rc<Self>, command: Command, ack: Ack, deadline: Instant) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= WAITING {
            let retry_after = Duration::from_secs(1);
            return ack.refuse(&Error::RateLimited { what: "too many events are waiting", retry_after });
        }
        waiting.push_back(Turn { command, ack, deadline });
        drop(waiting);
        if !self.busy.replace(true) {
            // Spawned only while there is something to do: a quiet client costs nothing.
            task::spawn(&self.socket, self.clone().work());
        }
    }

    async fn work(self: Rc<Self>) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            let Some(turn) = next else { break };
            supervision::fault!("visit");
            self.take(turn).await;
        }
        self.busy.set(false);
    }

    async fn take(self: &Rc<Self>, Turn { command, ack, deadline }: Turn) {
        match command {
            Command::Say(post, text) => self.say(post, text, ack, deadline).await,
            Command::Type(typing) => {
                ack.answer(with_deadline(deadline, self.set_typing(typing, deadline)).await)
            }
            Command::Join(join) => self.answer_large(ack, self.join(join, deadline), deadline).await,
            Command::Leave(leave) => ack.answer(with_deadline(deadline, self.leave(leave, deadline)).await),
            Command::Recall(page) => self.answer_large(ack, self.recall(page, deadline), deadline).await,
        }
    }

    /// Does what has a large answer when the client has read enough of what it was sent before, and when it is its turn, or says that
    /// it has not come to that.
    async fn answer_large<T: Serialize>(
        &self,
        ack: Ack,
        task: impl Future<Output = Result<T, Error>>,
        deadline: Instant,
    ) {
        let turn = async {
            self.socket.caught_up().await;
            self.chat.reading(self.user()).await
        };
        match with_deadline(deadline, turn).await {
            Ok(_turn) => ack.answer(with_deadline(deadline, task).await),
            Err(error) => ack.refuse(&error),
        }
    }

    /// The actor of a room, kept for the next time.
    pub async fn room(&self, name: &RoomName, deadline: Instant) -> Result<Addr<Room>, Error> {
        let known = self.rooms.borrow().get(name).filter(|room| room.connected()).cloned();
        if let Some(room) = known {
            return Ok(room);
        }
        let found = with_deadline(deadline, self.chat.room(name)).await;
        let mut rooms = self.rooms.borrow_mut();
        match &found {
            Ok(room) => drop(rooms.insert(name.clone(), room.clone())),
            Err(_) => drop(rooms.remove(name)),
        }
        found
    }
}

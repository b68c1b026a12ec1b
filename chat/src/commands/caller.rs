//! The user that runs commands, and the state that the commands of one socket share.

use std::{cell::RefCell, collections::HashMap, time::Instant};

use actix::{Addr, Handler};
use proto::{RoomName, Username, event::Act};
use socketio::{Socket, SocketId};

use super::typing_throttle::TypingThrottle;
use crate::{
    Chat, Error,
    ask::{Ask, AskError, Pending, Question, ask},
    chat::with_deadline,
    room::{Room, membership::Check},
};

/// The user that runs a command.
pub struct Caller {
    chat: Chat,
    user: Username,
    /// The socket of the user. `None` over HTTP.
    connection: Option<Connection>,
}

/// The state that all commands of one socket share.
pub struct Connection {
    socket: Socket,
    /// The actors of rooms that the client has posted to, so that the room registry is asked once per room.
    rooms: RefCell<HashMap<RoomName, Addr<Room>>>,
    typing_throttle: RefCell<TypingThrottle>,
}

impl Caller {
    /// The user of an HTTP request.
    pub fn of_request(chat: Chat, user: Username) -> Self {
        Self { chat, user, connection: None }
    }

    /// The user of a socket.
    pub fn of_socket(chat: Chat, user: Username, connection: Connection) -> Self {
        Self { chat, user, connection: Some(connection) }
    }

    /// The chat.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// The session's user.
    pub fn user(&self) -> &Username {
        &self.user
    }

    /// The state of the socket. `None` over HTTP.
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// The id of the socket. `None` over HTTP.
    pub fn origin(&self) -> Option<SocketId> {
        self.connection.as_ref().map(|connection| connection.socket.id())
    }

    /// Checks that the user has the permission for `act` in a room.
    ///
    /// # Errors
    /// The refusal of the room.
    pub async fn check(&self, room: &RoomName, act: Act, deadline: Instant) -> Result<(), Error> {
        self.chat.ask(room, Check { user: self.user.clone(), act }, deadline).await.map(drop)
    }

    /// Sends a question to a room, in the order of the caller's questions. If the room's actor has stopped since the last question, it is
    /// looked up once more.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such room, [`Error::Unavailable`] when its queue is full or the deadline expires.
    pub async fn submit<Q>(
        &self,
        room: &RoomName,
        mut question: Q,
        deadline: Instant,
    ) -> Result<Pending<Q::Answer>, Error>
    where
        Q: Question,
        Room: Handler<Ask<Q>>,
    {
        for _ in 0..2 {
            match ask(&self.room(room, deadline).await?, question) {
                Ok(pending) => return Ok(pending),
                Err(AskError::Full) => return Err(Error::full()),
                Err(AskError::Gone(returned)) => question = returned,
            }
        }
        Err(Error::gone())
    }

    /// The actor of a room. A socket caches it while it runs.
    async fn room(&self, name: &RoomName, deadline: Instant) -> Result<Addr<Room>, Error> {
        let cache = self.connection.as_ref().map(|connection| &connection.rooms);
        let cached =
            cache.and_then(|rooms| rooms.borrow().get(name).filter(|room| room.connected()).cloned());
        if let Some(room) = cached {
            return Ok(room);
        }
        let found = with_deadline(deadline, self.chat.room(name)).await;
        if let Some(rooms) = cache {
            let mut rooms = rooms.borrow_mut();
            match &found {
                Ok(room) => drop(rooms.insert(name.clone(), room.clone())),
                Err(_) => drop(rooms.remove(name)),
            }
        }
        found
    }
}

impl Connection {
    /// The state of a new socket.
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            rooms: RefCell::default(),
            typing_throttle: RefCell::new(TypingThrottle::new(Instant::now())),
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The rate limit of the client's typing changes.
    pub(super) fn typing_throttle(&self) -> &RefCell<TypingThrottle> {
        &self.typing_throttle
    }
}

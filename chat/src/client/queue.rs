//! The commands of one client, executed in the order in which they arrive. A post leaves the queue when its room has accepted it, so
//! many posts may be in flight. Every other command is complete before the next one starts.

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

/// The maximum number of queued commands. The number of open acks has a separate limit.
const MAX_QUEUED: usize = 128;

/// The state that all commands of one client share. It can outlive the connection until the last command is answered.
pub struct CommandQueue {
    chat: Chat,
    socket: Socket,
    user: Username,
    /// The actors of rooms that the client has posted to, so that the room registry is asked once per room.
    rooms: RefCell<HashMap<RoomName, Addr<Room>>>,
    queued: RefCell<VecDeque<QueuedCommand>>,
    /// Whether a task processes `queued`.
    busy: Cell<bool>,
    typing_throttle: RefCell<TypingThrottle>,
    /// The rooms that the client has reloaded. `Some` if the client connected with an offset of a history that was replaced.
    reloaded: Option<RefCell<HashSet<RoomName>>>,
}

struct QueuedCommand {
    command: Command,
    ack: Ack,
    deadline: Instant,
}

impl CommandQueue {
    /// The queue of `user`'s client behind `socket`. `is_replaced` means that the client connected with an offset of a history that
    /// was replaced by the current one.
    pub fn new(chat: Chat, socket: Socket, user: Username, is_replaced: bool) -> Self {
        Self {
            chat,
            socket,
            user,
            rooms: RefCell::default(),
            queued: RefCell::default(),
            busy: Cell::new(false),
            typing_throttle: RefCell::new(TypingThrottle::new(Instant::now())),
            reloaded: is_replaced.then(RefCell::default),
        }
    }

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

    /// The rate limit of the client's typing changes.
    pub fn typing_throttle(&self) -> &RefCell<TypingThrottle> {
        &self.typing_throttle
    }

    /// Whether the client's messages of this room belong to a history that was replaced, and the client has not reloaded them.
    pub fn needs_reload(&self, room: &RoomName) -> bool {
        self.reloaded.as_ref().is_some_and(|reloaded| !reloaded.borrow().contains(room))
    }

    /// Records that the client reloads this room.
    pub fn set_reloaded(&self, room: &RoomName) {
        if let Some(reloaded) = &self.reloaded {
            reloaded.borrow_mut().insert(room.clone());
        }
    }

    /// Queues `command`, or refuses it when the queue is full. `ack` is answered by `deadline` in any case.
    pub fn submit(self: &Rc<Self>, command: Command, ack: Ack, deadline: Instant) {
        let mut queued = self.queued.borrow_mut();
        if queued.len() >= MAX_QUEUED {
            let retry_after = Duration::from_secs(1);
            return ack.refuse(&Error::RateLimited { what: "too many events are waiting", retry_after });
        }
        queued.push_back(QueuedCommand { command, ack, deadline });
        drop(queued);
        if !self.busy.replace(true) {
            // The task exists only while commands are queued: an idle client costs nothing.
            task::spawn(&self.socket, self.clone().run());
        }
    }

    async fn run(self: Rc<Self>) {
        loop {
            let next = self.queued.borrow_mut().pop_front();
            let Some(queued) = next else { break };
            supervision::fault!("command");
            self.execute(queued).await;
        }
        self.busy.set(false);
    }

    async fn execute(self: &Rc<Self>, QueuedCommand { command, ack, deadline }: QueuedCommand) {
        match command {
            Command::Send(post, text) => self.send(post, text, ack, deadline).await,
            Command::SetTyping(typing) => {
                ack.answer(with_deadline(deadline, self.set_typing(typing, deadline)).await);
            }
            Command::Join(join) => self.answer_large(ack, self.join(join, deadline), deadline).await,
            Command::Leave(leave) => ack.answer(with_deadline(deadline, self.leave(leave, deadline)).await),
            Command::History(query) => self.answer_large(ack, self.history(query, deadline), deadline).await,
        }
    }

    /// Runs a command with a large answer. It starts when the client has read enough of its earlier packets and a read slot of the
    /// node is free. If that takes longer than `deadline`, the command is refused.
    async fn answer_large<T: Serialize>(
        &self,
        ack: Ack,
        command: impl Future<Output = Result<T, Error>>,
        deadline: Instant,
    ) {
        let turn = async {
            self.socket.caught_up().await;
            self.chat.read_turn(self.user()).await
        };
        match with_deadline(deadline, turn).await {
            Ok(_turn) => ack.answer(with_deadline(deadline, command).await),
            Err(error) => ack.refuse(&error),
        }
    }

    /// The actor of a room. It is cached while it runs.
    pub async fn room(&self, name: &RoomName, deadline: Instant) -> Result<Addr<Room>, Error> {
        let cached = self.rooms.borrow().get(name).filter(|room| room.connected()).cloned();
        if let Some(room) = cached {
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

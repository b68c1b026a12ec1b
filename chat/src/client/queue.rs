//! The commands of one client, executed in the order in which they arrive. A post leaves the queue when its room has accepted it, so
//! many posts may be in flight. Every other command is complete before the next one starts.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use proto::Username;
use socketio::Socket;

use crate::{
    Chat, Error,
    ack::Ack,
    commands::{Caller, Connection, QueuedCommand},
    task,
};

/// The maximum number of queued commands. The number of open acks has a separate limit.
const MAX_QUEUED: usize = 128;

/// The queue of one client. It can outlive the connection until the last command is answered.
pub struct CommandQueue {
    /// The client's user, and the state that its commands share.
    caller: Rc<Caller>,
    socket: Socket,
    queued: RefCell<VecDeque<Queued>>,
    /// Whether a task processes `queued`.
    busy: Cell<bool>,
}

struct Queued {
    command: Box<dyn QueuedCommand>,
    ack: Ack,
    deadline: Instant,
}

impl CommandQueue {
    /// An empty queue of `user`'s client behind `socket`.
    pub fn new(chat: Chat, user: Username, connection: Connection) -> Self {
        let socket = connection.socket().clone();
        let caller = Caller::of_socket(chat, user, connection).into();
        Self { caller, socket, queued: RefCell::default(), busy: Cell::new(false) }
    }

    /// The client's user.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The client's socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Queues `command`, or refuses it when the queue is full. `ack` is answered by `deadline` in any case.
    pub fn submit(self: &Rc<Self>, command: Box<dyn QueuedCommand>, ack: Ack, deadline: Instant) {
        let mut queued = self.queued.borrow_mut();
        if queued.len() >= MAX_QUEUED {
            let retry_after = Duration::from_secs(1);
            return ack.refuse(&Error::RateLimited { what: "too many events are waiting", retry_after });
        }
        queued.push_back(Queued { command, ack, deadline });
        drop(queued);
        if !self.busy.replace(true) {
            // The task exists only while commands are queued: an idle client costs nothing.
            task::spawn(&self.socket, self.clone().run());
        }
    }

    async fn run(self: Rc<Self>) {
        loop {
            let next = self.queued.borrow_mut().pop_front();
            let Some(Queued { command, ack, deadline }) = next else { break };
            supervision::fault!("command");
            command.run(self.caller.clone(), self.socket.clone(), ack, deadline).await;
        }
        self.busy.set(false);
    }
}

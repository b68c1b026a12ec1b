//! A small chat: names, rooms, messages with acks, typing indicators, and polls that collect an answer of
//! every member.
//!
//! Start it with `cargo run -p socketio --example chat`, or with another address as argument. Each terminal of
//! Node with `socket.io-client` is a member:
//!
//! ```js
//! const socket = require("socket.io-client").io("http://127.0.0.1:3000", { auth: { name: "alice" } });
//! socket.onAny((event, ...args) => console.log(event, ...args));
//! socket.on("question", (text, answer) => answer("yes"));
//! await socket.emitWithAck("join", "tea");                 // { members: [ "alice" ] }
//! await socket.emitWithAck("message", "tea", "hello");     // { id: 1 }
//! socket.emit("typing", "tea", true);                      // no ack
//! await socket.emitWithAck("poll", "tea", "more tea?");    // { answers: [ "yes" ], missing: 0 }
//! await socket.emitWithAck("leave", "tea");                // { members: [] }
//! ```
//!
//! The other members of the room receive `joined (room, name)`, `message (room, { id, from, text })`, `typing
//! (room, name, is_typing)` and `left (room, name)`. A command that fails is acknowledged with `{ error }`.

#![allow(clippy::print_stdout, reason = "an example reports its address on standard output")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::{App as HttpApp, HttpRequest, HttpServer, rt};
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde_json::{Value, json};
use socketio::{
    Accepted, App, CloseReason, Config, Connect, Encoded, Event, Io, Operation, Peer, Refusal, Reply, Room,
    Server, Socket, Target, on_connect,
};
use tokio::sync::mpsc;

/// The only namespace.
const NAMESPACE: &str = "/";

/// The number of operations that wait for delivery. A command beyond it is refused.
const QUEUE: usize = 1024;

/// The longest name of a member or room, in bytes.
const MAX_NAME: usize = 64;

/// The time within which members answer a poll.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);

/// The application. Clones share their state, because the HTTP server has several workers.
#[derive(Clone)]
struct Chat {
    io: Io,
    /// Operations on the way to all workers.
    operations: mpsc::Sender<Operation>,
    rooms: Arc<Mutex<Rooms>>,
}

/// The state of all rooms.
#[derive(Default)]
struct Rooms {
    /// Room → socket id → name of the member. A room exists while it has members.
    members: HashMap<Room, BTreeMap<String, String>>,
    /// The id of the last message.
    last_id: u64,
}

/// One connected client.
struct Member {
    chat: Chat,
    socket: Socket,
    name: String,
}

/// The content of an ack. The error is a text for humans.
type Answer = Result<Value, &'static str>;

impl App for Chat {
    type Admission = ();
    type Peer = Member;

    /// Every HTTP request may open a session. An application that authenticates by cookies, or restricts the
    /// origins of WebSockets, checks the request here.
    fn admit(&self, _: &HttpRequest) -> Result<(), Refusal> {
        Ok(())
    }

    /// Decides about one CONNECT. `auth` is what the client passed as `io(url, { auth })`.
    fn connect(&self, connect: Connect<()>) -> LocalBoxFuture<'static, Result<Accepted<Member>, Refusal>> {
        let chat = self.clone();
        Box::pin(async move {
            let name = connect.auth["name"].as_str().unwrap_or_default().to_owned();
            if &*connect.namespace != NAMESPACE {
                Err(Refusal::new("Invalid namespace"))
            } else if !is_valid(&name) {
                let data = Some(json!({"code": "invalid_name"}));
                Err(Refusal { message: "a name has 1 to 64 bytes".to_owned(), data })
            } else {
                Ok(Accepted::new(Member { chat, socket: connect.socket, name }))
            }
        })
    }
}

impl Peer for Member {
    fn event(&mut self, mut event: Event, reply: Option<Reply>) {
        // Every command names a room. `arg` takes the argument out of the event.
        let Some(name) = event.arg::<String>(0).ok().filter(|name| is_valid(name)) else {
            return acknowledge(reply, Err("the first argument is the name of a room, 1 to 64 bytes"));
        };
        let second = event.arg::<Value>(1).unwrap_or_default();
        let answer = match (event.name.as_str(), second) {
            ("join", _) => self.join(&name),
            ("leave", _) => self.leave(&name),
            ("message", Value::String(text)) => self.post(&name, &text),
            ("typing", Value::Bool(is_typing)) => self.typing(&name, is_typing),
            // The answer is sent later, so the reply moves into the task that waits for the members.
            ("poll", Value::String(question)) => return self.poll(name, question, reply),
            ("message" | "typing" | "poll", _) => Err("the second argument is missing or of another type"),
            _ => Err("unknown event"),
        };
        acknowledge(reply, answer);
    }

    /// The connection has ended. The socket is in no room any longer; `rooms` returns the last ones.
    fn closed(&mut self, _: CloseReason) {
        for room in self.socket.rooms() {
            if let Some(name) = room.strip_prefix(PREFIX) {
                // An error means that the client is no member of the room.
                self.leave(name).ok();
            }
        }
    }
}

impl Member {
    fn join(&self, name: &str) -> Answer {
        let room = room(name);
        self.socket.join(&room);
        let mut rooms = self.chat.rooms();
        let members = rooms.members.entry(room).or_default();
        members.insert(self.socket.id().to_string(), self.name.clone());
        let answer = json!({"members": members.values().collect::<Vec<_>>()});
        // If the queue is full, the others miss this notice, and the client is a member nevertheless.
        self.send_others(name, "joined", &(name, &self.name), false).ok();
        Ok(answer)
    }

    fn leave(&self, name: &str) -> Answer {
        let room = room(name);
        self.socket.leave(&room);
        let mut rooms = self.chat.rooms();
        let members = rooms.members.get_mut(&room).ok_or(NOT_A_MEMBER)?;
        members.remove(self.socket.id().as_str()).ok_or(NOT_A_MEMBER)?;
        let answer = json!({"members": members.values().collect::<Vec<_>>()});
        if members.is_empty() {
            rooms.members.remove(&room);
        }
        self.send_others(name, "left", &(name, &self.name), false).ok();
        Ok(answer)
    }

    /// Sends a message to the other members. The ack contains its id, so the sender needs no copy.
    fn post(&self, name: &str, text: &str) -> Answer {
        self.check_membership(name)?;
        // Locked until the message is queued: the members receive the messages in the order of their ids.
        let mut rooms = self.chat.rooms();
        let id = rooms.last_id + 1;
        let message = json!({"id": id, "from": self.name, "text": text});
        self.send_others(name, "message", &(name, message), false)?;
        rooms.last_id = id;
        Ok(json!({"id": id}))
    }

    /// A typing indicator is volatile: a member that lags does not receive it.
    fn typing(&self, name: &str, is_typing: bool) -> Answer {
        self.check_membership(name)?;
        self.send_others(name, "typing", &(name, &self.name, is_typing), true)?;
        Ok(Value::Null)
    }

    /// Asks all members of a room and acknowledges with their answers.
    fn poll(&self, name: String, question: String, reply: Option<Reply>) {
        if let Err(error) = self.check_membership(&name) {
            return acknowledge(reply, Err(error));
        }
        let io = self.chat.io.clone();
        rt::spawn(async move {
            let to = Target::room(NAMESPACE, room(&name));
            let responses = io.emit_with_ack(to, "question", &(question,), POLL_TIMEOUT).await;
            let answer = responses.map_err(|_| "the poll failed").map(|responses| {
                let answers = responses.received.into_iter().map(|response| response.args.into_iter().next());
                json!({"answers": answers.collect::<Vec<_>>(), "missing": responses.missing})
            });
            acknowledge(reply, answer);
        });
    }

    fn check_membership(&self, name: &str) -> Result<(), &'static str> {
        if self.socket.is_in(&room(name)) { Ok(()) } else { Err(NOT_A_MEMBER) }
    }

    /// Queues an event for the members of a room without this one.
    fn send_others(
        &self,
        name: &str,
        event: &str,
        args: &impl Serialize,
        volatile: bool,
    ) -> Result<(), &'static str> {
        // A socket's id names a room that contains only this socket.
        let to = Target::room(NAMESPACE, room(name)).except(self.socket.id().room());
        let packet =
            Encoded::event(NAMESPACE, event, args, None).map_err(|_| "the arguments are not an array")?;
        self.chat.operations.try_send(Operation::Send { to, packet, volatile }).map_err(|_| "busy, try again")
    }
}

impl Chat {
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to a command for a room that the client has not joined.
const NOT_A_MEMBER: &str = "not a member of this room";

/// Precedes the names of rooms. Without it a client could join the room of another client's socket id.
const PREFIX: &str = "room:";

/// Whether this can be the name of a member or room.
fn is_valid(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
}

/// The room of the server for a room of the chat.
fn room(name: &str) -> Room {
    format!("{PREFIX}{name}").into()
}

/// Sends the ack if the client requested one.
fn acknowledge(reply: Option<Reply>, answer: Answer) {
    if let Some(reply) = reply {
        reply.send(&(answer.unwrap_or_else(|error| json!({"error": error})),));
    }
}

/// Delivers the operations of all members in one order, in batches. While clients lag, batches grow and the
/// queue fills.
async fn deliver(io: Io, mut operations: mpsc::Receiver<Operation>) {
    let mut batch = Vec::new();
    while operations.recv_many(&mut batch, QUEUE).await > 0 {
        io.send(std::mem::take(&mut batch)).await;
    }
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let io = Io::new();
    let (sender, receiver) = mpsc::channel(QUEUE);
    rt::spawn(deliver(io.clone(), receiver));
    let chat = Chat { io: io.clone(), operations: sender, rooms: Arc::default() };
    let server = Server::new(io, chat, Config::default());
    let server = HttpServer::new(move || HttpApp::new().configure(|service| server.mount(service)))
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .bind(address)?;
    server.addrs().iter().for_each(|address| println!("listening on http://{address}"));
    server.run().await
}

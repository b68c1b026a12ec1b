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
//! (room, name, is_typing)` and `left (room, name)`. A command that fails is acknowledged with `{ error }`, one
//! whose arguments do not fit with `{ error: "invalid_payload", message }`.

#![allow(clippy::print_stdout, reason = "an example reports its address on standard output")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::{App as HttpApp, HttpServer, rt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use socketio::{
    Ack, Client, Config, Connect, Encoded, Io, Operation, Refusal, Room, Router, Server, Target, on_connect,
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

/// The data of one connected client.
struct Member {
    chat: Chat,
    name: String,
}

/// The name of a room in the payload of a command.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct RoomName(String);

/// The content of an ack. The error is a text for humans.
type Answer = Result<Value, &'static str>;

impl TryFrom<String> for RoomName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        if is_valid(&name) { Ok(Self(name)) } else { Err("a room has 1 to 64 bytes") }
    }
}

/// The application: a handler for each command.
fn router(chat: Chat) -> Router<Member> {
    // Decides about one CONNECT. `auth` is what the client passed as `io(url, { auth })`.
    let accept = move |connect: Connect<()>| {
        let (chat, name) = (chat.clone(), connect.auth["name"].as_str().unwrap_or_default().to_owned());
        async move {
            let data = Some(json!({"code": "invalid_name"}));
            let refusal = || Refusal { message: "a name has 1 to 64 bytes".to_owned(), data };
            is_valid(&name).then_some(Member { chat, name }).ok_or_else(refusal)
        }
    };
    Router::accept(accept)
        .on("join", |member, room, ack| answer(ack, join(member, &room)))
        .on("leave", |member, room, ack| answer(ack, leave(member, &room)))
        .on("message", |member, (room, text): (_, String), ack| answer(ack, post(member, &room, &text)))
        .on("typing", |member, (room, is_typing), ack| answer(ack, typing(member, &room, is_typing)))
        .on_async("poll", |member, (room, question), ack| async move {
            answer(ack, poll(&member, room, question).await);
        })
        .fallback(|_, _, reply| answer(Ack::from(reply), Err("unknown event")))
        // The socket is in no room any longer; `rooms` returns the last ones.
        .on_disconnect(|member, _| {
            for room in member.rooms() {
                if let Some(name) = room.strip_prefix(PREFIX) {
                    // An error means that the client is no member of the room.
                    leave(member, &RoomName(name.to_owned())).ok();
                }
            }
        })
}

fn join(member: &Client<Member>, name: &RoomName) -> Answer {
    let room = name.room();
    member.join(&room);
    let mut rooms = member.data().chat.rooms();
    let members = rooms.members.entry(room).or_default();
    members.insert(member.id().to_string(), member.data().name.clone());
    let answer = json!({"members": members.values().collect::<Vec<_>>()});
    // If the queue is full, the others miss this notice, and the client is a member nevertheless.
    send_others(member, name, "joined", &(&name.0, &member.data().name), false).ok();
    Ok(answer)
}

fn leave(member: &Client<Member>, name: &RoomName) -> Answer {
    let room = name.room();
    member.leave(&room);
    let mut rooms = member.data().chat.rooms();
    let members = rooms.members.get_mut(&room).ok_or(NOT_A_MEMBER)?;
    members.remove(member.id().as_str()).ok_or(NOT_A_MEMBER)?;
    let answer = json!({"members": members.values().collect::<Vec<_>>()});
    if members.is_empty() {
        rooms.members.remove(&room);
    }
    send_others(member, name, "left", &(&name.0, &member.data().name), false).ok();
    Ok(answer)
}

/// Sends a message to the other members. The ack contains its id, so the sender needs no copy.
fn post(member: &Client<Member>, name: &RoomName, text: &str) -> Answer {
    check_membership(member, name)?;
    // Locked until the message is queued: the members receive the messages in the order of their ids.
    let mut rooms = member.data().chat.rooms();
    let id = rooms.last_id + 1;
    let message = json!({"id": id, "from": member.data().name, "text": text});
    send_others(member, name, "message", &(&name.0, message), false)?;
    rooms.last_id = id;
    Ok(json!({"id": id}))
}

/// A typing indicator is volatile: a member that lags does not receive it.
fn typing(member: &Client<Member>, name: &RoomName, is_typing: bool) -> Answer {
    check_membership(member, name)?;
    send_others(member, name, "typing", &(&name.0, &member.data().name, is_typing), true)?;
    Ok(Value::Null)
}

/// Asks all members of a room and acknowledges with their answers.
async fn poll(member: &Client<Member>, name: RoomName, question: String) -> Answer {
    check_membership(member, &name)?;
    let to = Target::room(NAMESPACE, name.room());
    let responses = member.data().chat.io.emit_with_ack(to, "question", &(question,), POLL_TIMEOUT).await;
    let responses = responses.map_err(|_| "the poll failed")?;
    let answers = responses.received.into_iter().map(|response| response.args.into_iter().next());
    Ok(json!({"answers": answers.collect::<Vec<_>>(), "missing": responses.missing}))
}

fn check_membership(member: &Client<Member>, name: &RoomName) -> Result<(), &'static str> {
    if member.is_in(&name.room()) { Ok(()) } else { Err(NOT_A_MEMBER) }
}

/// Queues an event for the members of a room without this one.
fn send_others(
    member: &Client<Member>,
    name: &RoomName,
    event: &str,
    args: &impl Serialize,
    volatile: bool,
) -> Result<(), &'static str> {
    // A socket's id names a room that contains only this socket.
    let to = Target::room(NAMESPACE, name.room()).except(member.id().room());
    let packet =
        Encoded::event(NAMESPACE, event, args, None).map_err(|_| "the arguments are not an array")?;
    let operation = Operation::Send { to, packet, volatile };
    member.data().chat.operations.try_send(operation).map_err(|_| "busy, try again")
}

impl RoomName {
    /// The room of the server for this room of the chat.
    fn room(&self) -> Room {
        format!("{PREFIX}{}", self.0).into()
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

/// Sends the ack if the client requested one.
fn answer(ack: Ack, answer: Answer) {
    ack.send(&(answer.unwrap_or_else(|error| json!({"error": error})),));
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
    let server = Server::new(io, router(chat), Config::default());
    let server = HttpServer::new(move || HttpApp::new().configure(|service| server.mount(service)))
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .bind(address)?;
    server.addrs().iter().for_each(|address| println!("listening on http://{address}"));
    server.run().await
}

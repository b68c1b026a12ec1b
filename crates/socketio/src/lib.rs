//! An Engine.IO 4 and Socket.IO 5 server on actix actors, for any actix-web application.
//!
//! # First steps
//!
//! An application of typed handlers is a [`Router`]:
//!
//! ```no_run
//! use socketio::{Config, Io, Router, Server, on_connect};
//!
//! #[actix_web::main]
//! async fn main() -> std::io::Result<()> {
//!     let app = Router::new().on("sum", |_, (a, b): (i64, i64), ack| ack.send(&(a + b,)));
//!     let server = Server::new(Io::new(), app, Config::default());
//!     actix_web::HttpServer::new(move || actix_web::App::new().configure(|service| server.mount(service)))
//!         .on_connect(on_connect).h1_allow_half_closed(false).bind("127.0.0.1:3000")?.run().await
//! }
//! ```
//!
//! Any other application implements two traits, [`App`] and [`Peer`], and passes its [`App`] to
//! [`Server::new`]. The README has a complete one and a table against the API of Node's `socket.io`;
//! `examples/chat.rs` is a small application with rooms, acks and state.
//!
//! # One client, from its first request to its end
//!
//! 1. A request opens a session. [`App::admit`] checks its headers, and keeps what is needed later as
//!    [`App::Admission`]. The session may change its transport; the application does not notice.
//! 2. The client sends a CONNECT for a namespace. [`App::connect`] receives it with the `auth` payload
//!    ([`Connect`]) and resolves with a peer ([`Accepted`]) or a [`Refusal`]. A client in three namespaces has
//!    three sockets and three peers.
//! 3. [`Peer::connected`] is called, then [`Peer::event`] for each event, in the order in which the client sent
//!    them. An event that requests an ack has a [`Reply`], which may be sent later, from a spawned task.
//! 4. [`Peer::closed`] is called once with the [`CloseReason`]: the client left the namespace, the connection
//!    was lost, the application closed it, or a limit of [`Config`] was exceeded.
//!
//! # Sending
//!
//! An event is encoded once, as [`Encoded`], for all its receivers.
//!
//! | to | with |
//! |---|---|
//! | one client, from its peer | [`Socket::emit`]; with an ack [`Socket::emit_with_ack`] |
//! | rooms, or a whole namespace | [`Io::send`] with an [`Operation`] and a [`Target`]; with acks [`Io::emit_with_ack`] |
//! | a socket of another peer | [`Io::send`] to the room of its id, [`SocketId::room`] |
//!
//! A [`Room`] is a name. [`Socket::join`] and [`Socket::leave`] act at once. [`Operation::Join`],
//! [`Operation::Leave`] and [`Operation::Disconnect`] act on sockets of any worker.
//!
//! # Threads
//!
//! An actix-web server has several workers, each a thread with an event loop of its own. A [`Socket`] and its
//! [`Peer`] stay on the worker on which the session was opened and are not [`Send`]; the methods of a peer are
//! never called concurrently and must not block. The [`App`] and the [`Io`] are shared by all workers.
//! [`actix_web::rt::spawn`] starts a task on the current worker, which may hold a [`Socket`].
//!
//! # Clients that are slow, and clients that misbehave
//!
//! Every client has a send queue, limited in bytes, frames and time without progress. [`Socket::emit`] returns
//! at once. A client whose queue is full is closed with [`CloseReason::Slow`]. [`Io::send`] waits, for a short
//! bounded time, for clients that lag and read, so a task that awaits it adapts to them;
//! [`BackpressureToken`] limits the wait to the clients that one sender's events reach. Packets and frames are
//! checked before they are parsed, and each limit has a [`CloseReason`].
//!
//! # Recovery
//!
//! A client that reconnects within a window can get its socket id, rooms and missed events back. With
//! [`Config::recovery`] the server keeps them in memory for all namespaces. An application with a log of its
//! own reads them there ([`Accepted::recovered`]) and marks its events with positions ([`Encoded::at`]).
//!
//! # Structure
//!
//! The crate handles packets, sessions, rooms and sockets. It contains no application logic.
//!
//! Layers, from the network inward: `transport` (bytes and frames) → `session` (the actor of one Engine.IO
//! session) → `namespaces` (the Socket.IO namespaces of one client) → [`App`] and [`Peer`] (the application)
//! → `shard` (the rooms of one worker) → `connection::send_queue` (the bounded queue toward one client) →
//! `transport`. `engine` and `packet` are pure codecs.

/// A fault point: a place where a test can make the server panic. Expands to nothing in release builds.
macro_rules! fault {
    ($part:expr) => {
        #[cfg(debug_assertions)]
        $crate::fault::hit($part);
    };
}

mod ack;
mod app;
mod backpressure;
mod close;
mod config;
mod connection;
mod encoded;
mod engine;
mod engine_only;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fault;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod heartbeat;
mod io;
pub mod json;
mod namespaces;
mod on_event;
mod operation;
mod packet;
mod query;
mod recovery;
mod request;
mod router;
mod server;
mod session;
mod shard;
mod socket;
mod tcp;
#[cfg(test)]
mod testing;
mod transport;

pub use ack::{AckError, Response};
pub use app::{Accepted, App, Connect, Event, Peer, Refusal, Resume};
pub use backpressure::{BackpressureToken, BackpressureWait};
pub use close::CloseReason;
pub use config::{Config, Cors, Recovery};
pub use encoded::Encoded;
pub use engine::handshake::NoEntropy;
pub use engine_only::{EngineApp, EnginePeer, EngineServer, EngineSocket};
pub use io::Io;
pub use on_event::{Listener, OnEvent, on_event};
pub use operation::{Emit, Operation, SocketInfo, Target};
pub use query::Responses;
pub use recovery::ClientOffset;
pub use request::RequestHead;
pub use router::{Ack, Client, Router, RouterPeer};
pub use server::Server;
pub use socket::{ReadPosition, Recovered, Reply, Socket, SocketId};
pub use tcp::on_connect;

/// The name of a room.
pub type Room = std::sync::Arc<str>;

/// The examples of the README, compiled by `cargo test --doc`.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! An Engine.IO 4 and Socket.IO 5 server on actix actors, for any actix-web application.
//!
//! An application implements two traits, [`App`] and [`Peer`], builds a [`Server`], and mounts it in its
//! `HttpServer`. For an application that only handles events, one function is enough:
//!
//! ```no_run
//! use socketio::{Config, Encoded, Io, Server, on_connect, on_event};
//!
//! #[actix_web::main]
//! async fn main() -> std::io::Result<()> {
//!     let echo = on_event(|socket, event, _| {
//!         let echo = Encoded::event("/", &event.name, &event.args, None).expect("parsed JSON serialises");
//!         socket.emit(&echo);
//!     });
//!     let server = Server::new(Io::new(), echo, Config::default());
//!     actix_web::HttpServer::new(move || actix_web::App::new().configure(|service| server.mount(service)))
//!         .on_connect(on_connect).h1_allow_half_closed(false).bind("127.0.0.1:3000")?.run().await
//! }
//! ```
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
pub use config::{Config, Cors};
pub use encoded::Encoded;
pub use engine::handshake::NoEntropy;
pub use engine_only::{EngineApp, EnginePeer, EngineServer, EngineSocket};
pub use io::Io;
pub use on_event::{Listener, OnEvent, on_event};
pub use operation::{Emit, Operation, SocketInfo, Target};
pub use query::Responses;
pub use recovery::{InMemoryRecovery, RecoveredSession};
pub use server::Server;
pub use socket::{ReadPosition, Recovered, Reply, Socket, SocketId};
pub use tcp::on_connect;

/// The name of a room.
pub type Room = std::sync::Arc<str>;

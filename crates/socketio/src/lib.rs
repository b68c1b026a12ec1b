//! An Engine.IO 4 and Socket.IO 5 server on actix actors, for any actix-web application.
//!
//! An application implements two traits, [`App`] and [`Peer`], builds a [`Server`], and mounts it in its `HttpServer`. One
//! that needs no more than its clients' events is a function:
//!
//! ```no_run
//! use socketio::{Io, Config, Encoded, Server, on_connect, on_event};
//!
//! #[actix_web::main]
//! async fn main() -> std::io::Result<()> {
//!     let echo = on_event(|socket, event, _| {
//!         let echo = Encoded::event("/", &event.name, &event.args, None).expect("arguments that came in go out");
//!         socket.emit(&echo);
//!     });
//!     let server = Server::new(Io::new(), echo, Config::default());
//!     actix_web::HttpServer::new(move || actix_web::App::new().configure(|service| server.mount(service)))
//!         .on_connect(on_connect).h1_allow_half_closed(false).bind("127.0.0.1:3000")?.run().await
//! }
//! ```
//!
//! Everything here knows packets, sessions, rooms and sockets, and nothing of what they are used for.
//!
//! How it is cut, from the tcp inward: `transport` (bytes and frames) → `session` (the state machine of one connection,
//! and the bounded send_queue toward it) → `sockets` (the namespaces of one client) → [`App`] and [`Peer`] (yours) → `shard` (who is in which room on this worker) →
//! send_queue → `transport`. `engine` and `packet` are the codecs, pure.

/// A place where a test can make the server panic. Expands to nothing in release builds.
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
pub use engine_only::{EngineApp, EnginePeer, EngineServer, EngineSocket};
pub use io::Io;
pub use on_event::{Listener, OnEvent, on_event};
pub use operation::{Emit, Operation, SocketInfo, Target};
pub use query::Responses;
pub use recovery::{InMemoryRecovery, RecoveredSession};
pub use server::Server;
pub use socket::{ReadPosition, Recovered, Reply, Socket, SocketId};
pub use tcp::on_connect;

/// A room's name.
pub type Room = std::sync::Arc<str>;

//! An Engine.IO 4 and Socket.IO 5 server on actix actors, for any actix-web application.
//!
//! An application implements two traits, [`App`] and [`Peer`], builds a [`Server`], and mounts it in its `HttpServer`. One
//! that needs no more than its clients' events is a function:
//!
//! ```no_run
//! use socketio::{Bus, Config, Encoded, Server, on_connect, on_event};
//!
//! #[actix_web::main]
//! async fn main() -> std::io::Result<()> {
//!     let echo = on_event(|socket, event, _| {
//!         let echo = Encoded::event("/", &event.name, &event.args, None).expect("arguments that came in go out");
//!         socket.emit(&echo);
//!     });
//!     let server = Server::new(Bus::new(), echo, Config::default());
//!     actix_web::HttpServer::new(move || actix_web::App::new().configure(|service| server.mount(service)))
//!         .on_connect(on_connect).h1_allow_half_closed(false).bind("127.0.0.1:3000")?.run().await
//! }
//! ```
//!
//! Everything here knows packets, sessions, rooms and sockets, and nothing of what they are used for.
//!
//! How it is cut, from the wire inward: `transport` (bytes and frames) → `session` (the state machine of one connection,
//! and the bounded outbox toward it) → `sockets` (the namespaces of one client) → [`App`] and [`Peer`] (yours) → `shard` (who is in which room on this worker) →
//! outbox → `transport`. `engine` and `packet` are the codecs, pure.

/// A place where a test can make the server panic. Expands to nothing in release builds.
macro_rules! fault {
    ($part:expr) => {
        #[cfg(debug_assertions)]
        $crate::fault::hit($part);
    };
}

mod answer;
mod app;
mod bare;
mod bus;
mod close;
mod config;
mod encoded;
mod engine;
mod fanout;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fault;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod json;
mod link;
mod on_event;
mod pacer;
mod packet;
mod pulse;
mod query;
mod recovery;
mod server;
mod session;
mod shard;
mod socket;
mod sockets;
#[cfg(test)]
mod testing;
mod transport;
mod wire;

pub use answer::{AckError, Answer};
pub use app::{App, Connect, Entry, Event, Peer, Refusal, Resume};
pub use bare::{EngineApp, EnginePeer, EngineServer, Line};
pub use bus::Bus;
pub use close::CloseReason;
pub use config::{Config, Cors};
pub use encoded::Encoded;
pub use fanout::{Broadcast, Fanout, Found, Selection};
pub use on_event::{Listener, OnEvent, on_event};
pub use pacer::{Paced, Pacer};
pub use query::Answers;
pub use recovery::{Memory, Returned};
pub use server::Server;
pub use socket::{Place, Recovered, Reply, Socket, SocketId};
pub use wire::on_connect;

/// A room's name.
pub type Room = std::sync::Arc<str>;

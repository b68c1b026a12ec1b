//! An Engine.IO 4 and Socket.IO 5 server on actix actors, for any actix-web application.
//!
//! An application implements two traits, [`App`] and [`Peer`], builds a [`Server`], and mounts it in its `HttpServer`.
//! Everything here knows packets, sessions, rooms and sockets, and nothing of what they are used for.
//!
//! How it is cut, from the wire inward: `transport` (bytes and frames) → `session` (the state machine of one connection,
//! and the bounded outbox toward it) → `sockets` (the namespaces of one client) → [`App`] and [`Peer`] (yours) → `shard` (who is in which room on this worker) →
//! outbox → `transport`. `engine` and `packet` are the codecs, pure.

mod answer;
mod app;
mod bare;
mod bus;
mod close;
mod config;
mod encoded;
mod engine;
mod fanout;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod link;
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
pub use query::Answers;
pub use recovery::{Memory, Returned};
pub use server::Server;
pub use socket::{Recovered, Reply, Socket, SocketId};
pub use wire::on_connect;

/// A room's name.
pub type Room = std::sync::Arc<str>;

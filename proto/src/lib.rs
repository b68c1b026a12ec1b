//! Shared contracts of the services: [names](name), [event names and payloads](event), the caller's [identity] and its
//! [signature], [client addresses](address), the JSON shape of an HTTP [refusal], [lenient deserializers](lenient),
//! [timestamps](stamp), and the [presence] gRPC contract. This crate contains no actors, no HTTP server and no store.

pub mod address;
pub mod event;
pub mod identity;
pub mod lenient;
pub mod name;
pub mod object;
pub mod refusal;
pub mod signature;
pub mod stamp;

pub use event::Code;
pub use identity::Identity;
pub use name::{NameError, RoomName, Username};
pub use object::Object;
pub use refusal::Refusal;
pub use stamp::Timestamp;

/// The presence service's messages, client and server, generated from `presence.proto`.
#[allow(missing_docs, clippy::all, clippy::too_many_lines, clippy::unwrap_used, rust_2018_idioms)]
pub mod presence {
    tonic::include_proto!("presence");

    /// The encoded file descriptors, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/presence.bin"));
}

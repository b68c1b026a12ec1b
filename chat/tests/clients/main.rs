//! Behaviour of the chat toward unusual clients: malformed and typed payloads, privacy, cleanup and drain. With a real store, real
//! sockets and real presence.

#[path = "../support/mod.rs"]
mod support;

mod cleanup;
mod drain;
mod malformed;
mod privacy;
mod revoked_reads;
mod typed_clients;

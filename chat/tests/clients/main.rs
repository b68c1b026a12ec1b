//! What clients in other languages send, what user_lookup may do to each other, and what is left of somebody who has gone: through
//! the front of the chat, on a real store with real sockets and real presence.

#[path = "../parlor/mod.rs"]
mod parlor;

mod additions;
mod drain;
mod ended;
mod hidden;
mod odd;
mod typed;

//! End-to-end tests of the chat's behaviour, with users on a [`crate::support::TestServer`].

mod changes;
mod limits;
mod messages;
mod presence;
mod rooms;

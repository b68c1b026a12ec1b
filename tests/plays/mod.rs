//! Plays: who says what, and who hears it. Each is a sentence about the chat that must stay true, acted through the front
//! door by people on a [`crate::stage`].

mod limits;
mod messages;
mod presence;
mod rooms;

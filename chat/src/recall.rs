//! Reading a page of a room's messages: one way for sockets and HTTP.

use std::time::Instant;

use proto::{
    Username,
    event::{History, Page},
};

use crate::{
    Chat, Error,
    config::{DEFAULT_PAGE, PAGE},
    room::membership::Check,
};

/// A page of `asked.room` for `user`.
///
/// # Errors
/// [`Error::BadRequest`] for a limit outside 1 to [`PAGE`], and what the room says to those who are not in it.
pub async fn page(chat: &Chat, user: &Username, asked: History, deadline: Instant) -> Result<Page, Error> {
    // A user who may not read here is refused for that, whatever is asked for.
    chat.ask(&asked.room, Check(user.clone()), deadline).await?;
    let limit = asked.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(Error::BadRequest(format!("limit is 1 to {PAGE}")));
    }
    chat.history().page(&asked.room, asked.before, asked.after, limit).await
}

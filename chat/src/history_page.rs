//! Reading a page of a room's messages: one way for sockets and HTTP.

use std::time::Instant;

use proto::{
    Username,
    event::{History, Page},
};
use serde::Serialize;

use crate::{
    Chat, Error,
    config::{DEFAULT_PAGE, PAGE},
    room::membership::Check,
};

/// A page, and what it says of the places that the client knows.
#[derive(Debug, Serialize)]
pub struct Recalled {
    #[serde(flatten)]
    page: Page,
    /// The client's `after` or `before` is of a history that was replaced by an older one: it drops what it has of the room. The page
    /// is the newest one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    /// A place in the log before the page was read, when the client has sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<String>,
}

/// A page of `asked.room` for `user`.
///
/// # Errors
/// [`Error::BadRequest`] for a limit outside 1 to [`PAGE`], and what the room says to those who are not in it.
pub async fn page(
    chat: &Chat,
    user: &Username,
    asked: History,
    deadline: Instant,
) -> Result<Recalled, Error> {
    let History { room, before, after, limit, offset } = asked;
    // A user who may not read here is refused for that, whatever is asked for.
    chat.ask(&room, Check(user.clone()), deadline).await?;
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(Error::BadRequest(format!("limit is 1 to {PAGE}")));
    }
    let (broker, history) = (chat.broker(), chat.history());
    let is_old = offset.as_deref().is_some_and(|offset| broker.is_of_replaced_history(offset));
    let offset = offset.map(|_| broker.show(broker.reached()));
    if !(is_old && before.or(after).is_some_and(|seq| seq > 0)) {
        let page = history.page(&room, before, after, limit).await?;
        let is_beyond = match after {
            Some(after) if page.messages.is_empty() => after > history.head(&room).await?.seq,
            _ => false,
        };
        if !is_beyond {
            return Ok(Recalled { page, reset: false, offset });
        }
    }
    let page = history.page(&room, None, None, limit).await?;
    Ok(Recalled { page, reset: true, offset })
}

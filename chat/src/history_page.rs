//! Reading a page of a room's messages. Used by the `history` event of sockets and by HTTP.

use std::time::Instant;

use proto::{
    Username,
    event::{History, Page},
};
use serde::Serialize;

use crate::{
    Chat, Error,
    config::{DEFAULT_PAGE, PAGE},
    room::membership::ReadRev,
};

/// A page of messages, and whether the client's position in the room is still valid.
#[derive(Debug, Serialize)]
pub struct HistoryPage {
    #[serde(flatten)]
    page: Page,
    /// The room's last change before the page was read.
    rev: u64,
    /// The client's `after` or `before` belongs to a history that was replaced by an older one. The client drops its messages of the
    /// room. The page is the newest one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    /// The stream offset before the page was read. Present when the client has sent an offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<String>,
}

/// Reads a page of `query.room` for `user`.
///
/// # Errors
/// [`Error::BadRequest`] for a limit outside 1 to [`PAGE`], and the room's refusal of users who are not members.
pub async fn page(
    chat: &Chat,
    user: &Username,
    query: History,
    deadline: Instant,
) -> Result<HistoryPage, Error> {
    let History { room, before, after, limit, offset } = query;
    // Permission is checked before the parameters: a user who may not read the room gets that refusal for any request.
    let rev = chat.ask(&room, ReadRev(user.clone()), deadline).await?;
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(Error::BadRequest(format!("limit is 1 to {PAGE}")));
    }
    let (broker, history) = (chat.broker(), chat.history());
    let is_old = offset.as_deref().is_some_and(|offset| broker.is_of_replaced_history(offset));
    let offset = offset.map(|_| broker.format_offset(broker.reached()));
    if !(is_old && before.or(after).is_some_and(|seq| seq > 0)) {
        let page = history.page(&room, before, after, limit).await?;
        let is_beyond = match after {
            Some(after) if page.messages.is_empty() => after > history.head(&room).await?.seq,
            _ => false,
        };
        if !is_beyond {
            return Ok(HistoryPage { page, rev, reset: false, offset });
        }
    }
    let page = history.page(&room, None, None, limit).await?;
    Ok(HistoryPage { page, rev, reset: true, offset })
}

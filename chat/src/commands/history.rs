//! `history`: reads a page of a room's messages, newest first.

use std::{rc::Rc, time::Instant};

use proto::event::{Act, History, Page, name};
use serde::Serialize;

use super::{Caller, Command, Outcome, RateClass};
use crate::{
    Error,
    config::{DEFAULT_PAGE, PAGE},
    room_reader,
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

impl Command for History {
    const EVENT: Option<&'static str> = Some(name::HISTORY);
    const ROUTE: Option<&'static str> = Some("GET /rooms/{room}/messages");
    const IS_PAYLOAD_OPTIONAL: bool = true;
    const RATE: RateClass = RateClass::LargeRead;
    const PERMISSION: Option<Act> = Some(Act::Read);
    type Answer = HistoryPage;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<HistoryPage>, Error> {
        let Self { room, before, after, limit, offset } = self;
        let (chat, broker) = (caller.chat(), caller.chat().broker());
        let page = room_reader::read(chat, caller.user(), &room, deadline, async |reader| {
            // Permission is checked before the parameters: a user who may not read the room gets that refusal for any request.
            let limit = limit.unwrap_or(DEFAULT_PAGE);
            if !(1..=PAGE).contains(&limit) {
                return Err(Error::BadRequest(format!("limit is 1 to {PAGE}")));
            }
            let rev = reader.rev();
            let is_old = offset.as_deref().is_some_and(|offset| broker.is_of_replaced_history(offset));
            let offset = offset.map(|_| broker.format_position());
            if !(is_old && before.or(after).is_some_and(|seq| seq > 0)) {
                let page = reader.page(before, after, limit).await?;
                let is_beyond = match after {
                    Some(after) if page.messages.is_empty() => after > reader.head().await?.seq,
                    _ => false,
                };
                if !is_beyond {
                    return Ok(HistoryPage { page, rev, reset: false, offset });
                }
            }
            let page = reader.page(None, None, limit).await?;
            Ok(HistoryPage { page, rev, reset: true, offset })
        });
        page.await.map(Outcome::Done)
    }
}

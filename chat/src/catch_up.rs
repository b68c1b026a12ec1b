//! What a client has missed in a room: messages after a `seq` and changes after a `rev`. Used by the `join` event of sockets and by HTTP.

use std::time::Instant;

use futures_util::future::try_join;
use proto::{
    RoomName, Username,
    event::{Item, ItemType, Join, Message},
};
use serde::Serialize;

use crate::{
    Chat, Error,
    config::SINCE,
    directory::{ChangesSince, Request},
    history::Slice,
    room::{Change, membership::ReadRev},
};

/// The position of a client in a room.
#[derive(Debug, Clone)]
pub struct Position {
    /// The last message that the client holds.
    pub since: Option<u64>,
    /// The last change that the client has applied.
    pub rev: Option<u64>,
    /// The types of items that the client needs.
    pub types: Vec<ItemType>,
    /// The stream offset that the client received with its last message or before.
    pub offset: Option<String>,
}

/// The answer: the position of the room, and what the client has missed.
#[derive(Debug, Serialize)]
pub struct CatchUp {
    /// The room's last `seq`. It is greater than the `seq` of the last message in `messages` when not all of them fit: the client
    /// then asks again from there.
    head: u64,
    /// The messages after `since`, oldest first. Empty when the client has no `since`. With `reset` and without `rev` they start at the
    /// room's first message.
    messages: Vec<Message>,
    /// The last change that this answer covers.
    rev: u64,
    /// The changes after the client's `rev`, in ascending order. Empty without a `rev`.
    changes: Vec<Changes>,
    /// Whether there are later changes: the client asks again with this answer's `rev`.
    more: bool,
    /// The smallest `seq` that the room keeps.
    first: u64,
    /// The id of the store. Positions of another store have no meaning in this one.
    epoch: String,
    /// The client's position has no meaning, because the store was replaced by an older one, or too much has changed. The client drops
    /// what it holds of the room.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    /// The stream offset before the room was read. Present when the client has sent an offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<String>,
}

/// The changed parts of a room whose last change has the same number.
#[derive(Debug, Serialize)]
struct Changes {
    rev: u64,
    items: Vec<Item>,
}

impl From<&Join> for Position {
    fn from(join: &Join) -> Self {
        let types = match &join.types {
            Some(names) => ItemType::named(names.iter().map(String::as_str)),
            None => ItemType::ALL.to_vec(),
        };
        Self { since: join.since, rev: join.rev, types, offset: join.offset.clone() }
    }
}

/// Reads what `user`, who is a member of the room or becomes one if `enters`, has missed. The membership is published before the room is
/// read, so everything later arrives as an event. What is in both has the same `seq` or `rev`. `is_replaced`: the client holds messages of
/// a history that was replaced.
///
/// # Errors
/// The room's refusal of users who are not members or may not join.
pub async fn read(
    chat: &Chat,
    user: &Username,
    room: &RoomName,
    position: Position,
    enters: bool,
    is_replaced: bool,
    deadline: Instant,
) -> Result<CatchUp, Error> {
    let Position { since, rev, types, offset } = position;
    let broker = chat.broker();
    let is_old = offset.as_deref().is_some_and(|offset| broker.is_of_replaced_history(offset));
    let is_replaced = is_replaced || is_old;
    let offset = offset.map(|_| broker.format_position());
    let last = match enters {
        true => chat.ask(room, Change(Request::Join { user: user.clone() }), deadline).await?,
        false => chat.ask(room, ReadRev(user.clone()), deadline).await?,
    };
    // The sockets of a user whose membership another node has begun must be in the room before the messages are read.
    broker.wait_if_subscribed(room, last).await;
    let changed = match rev {
        None => ChangesSince::page(last, vec![]),
        Some(_) if is_replaced => ChangesSince::reset(last),
        Some(rev) => chat.directory().changes_since(room, rev, &types).await?.ok_or(Error::NotFound)?,
    };
    let replaced = is_replaced && since.is_some_and(|seq| seq > 0);
    let mut reset = changed.reset;
    let (head, messages, first) = match since {
        None => {
            let (head, first) = try_join(chat.history().head(room), chat.history().first(room)).await?;
            (head.seq, vec![], first)
        }
        Some(seq) => {
            let (mut slice, mut first) = slice_and_first(chat, room, if replaced { 0 } else { seq }).await?;
            reset |= replaced || seq > slice.head;
            if reset && rev.is_none() && !replaced {
                (slice, first) = slice_and_first(chat, room, 0).await?;
            }
            (slice.head, slice.messages.into_iter().map(|stored| stored.message).collect(), first)
        }
    };
    let changed = if reset && rev.is_some() { ChangesSince::reset(changed.rev.max(last)) } else { changed };
    let changes = changed.changes.into_iter().map(|(rev, items)| Changes { rev, items }).collect();
    Ok(CatchUp {
        head,
        // A client that sends its `rev` loads what it shows by `history` after a reset.
        messages: if reset && rev.is_some() { vec![] } else { messages },
        rev: changed.rev,
        changes,
        more: changed.more,
        first,
        epoch: broker.store_epoch(),
        reset,
        offset,
    })
}

/// The messages of a room after `seq`, and the smallest `seq` that the room keeps. It is that of the first message of a slice from the
/// beginning. Otherwise both are read at the same time.
async fn slice_and_first(chat: &Chat, room: &RoomName, seq: u64) -> Result<(Slice, u64), Error> {
    let history = chat.history();
    if seq > 0 {
        return try_join(history.since(room, seq, SINCE), history.first(room)).await;
    }
    let slice = history.since(room, 0, SINCE).await?;
    let first = match slice.messages.first() {
        Some(stored) => stored.message.seq,
        None => history.first(room).await?,
    };
    Ok((slice, first))
}

//! What a client has missed in a room: messages after a `seq` and changes after a `rev`. Used by the `join` event of sockets and by HTTP.

use std::time::Instant;

use proto::{
    RoomName, Username,
    event::{Item, ItemType, Join, Message},
};
use serde::Serialize;

use crate::{
    Chat, Error,
    config::SINCE,
    directory::{ChangesSince, Request},
    room::Change,
    room_reader::{self, RoomReader},
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
/// read, so everything later arrives as an event. What is in both has the same `seq` or `rev`.
///
/// # Errors
/// The room's refusal of users who are not members or may not join.
pub async fn read(
    chat: &Chat,
    user: &Username,
    room: &RoomName,
    position: Position,
    enters: bool,
    deadline: Instant,
) -> Result<CatchUp, Error> {
    let broker = chat.broker();
    let offset = position.offset.as_deref();
    let is_replaced = offset.is_some_and(|offset| broker.is_of_replaced_history(offset));
    let offset = offset.map(|_| broker.format_position());
    let entered = match enters {
        true => chat.ask(room, Change(Request::Join { user: user.clone() }), deadline).await?,
        false => 0,
    };
    let read = room_reader::read(chat, user, room, deadline, async |reader| {
        let last = reader.rev().max(entered);
        // The sockets of a user whose membership another node has begun must be in the room before the messages are read.
        broker.wait_if_subscribed(room, last).await;
        missed(&reader, &position, last, is_replaced).await
    });
    let answer = read.await?;
    Ok(CatchUp { epoch: broker.store_epoch(), offset, ..answer })
}

/// What the client has missed. `last` is the room's last change before the read. The answer has no epoch and no offset.
async fn missed(
    reader: &RoomReader<'_>,
    position: &Position,
    last: u64,
    is_replaced: bool,
) -> Result<CatchUp, Error> {
    let Position { since, rev, types, .. } = position;
    let (since, rev) = (*since, *rev);
    let changed = match rev {
        None => ChangesSince::page(last, vec![]),
        Some(_) if is_replaced => ChangesSince::reset(last),
        Some(rev) => reader.changes_since(rev, types).await?,
    };
    let replaced = is_replaced && since.is_some_and(|seq| seq > 0);
    let mut reset = changed.reset;
    let (head, messages, first) = match since {
        None => {
            let (head, first) = reader.head_and_first().await?;
            (head.seq, vec![], first)
        }
        Some(seq) => {
            let start = if replaced { 0 } else { seq };
            let (mut slice, mut first) = reader.slice_and_first(start, SINCE).await?;
            reset |= replaced || seq > slice.head;
            if reset && rev.is_none() && !replaced {
                (slice, first) = reader.slice_and_first(0, SINCE).await?;
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
        epoch: String::new(),
        reset,
        offset: None,
    })
}

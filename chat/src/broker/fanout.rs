//! What an entry means for the sockets: whom it reaches and how it is spelled, encoded once. Pure; [`super::fanout_actor`] sends it.

use proto::{
    RoomName, Username,
    event::{Membership, Message, Presence, name},
};
use serde::Serialize;
use serde_json::json;
use socketio::{BackpressureToken, CloseReason, Emit, Encoded, Operation, Room, SocketId};

use super::{Entry, StreamPosition, pacing::Pacers};

/// The sockets of a room's members.
pub fn of_room(room: &RoomName) -> Room {
    format!("room:{room}").into()
}

/// A user's sockets.
pub fn of_user(user: &Username) -> Room {
    format!("user:{}", user.key()).into()
}

/// The sockets that one login has opened.
pub fn of_session(session: &str) -> Room {
    format!("session:{session}").into()
}

/// The payload of `presence` while nobody knows who is online: no list rather than an old one.
pub fn unknown() -> serde_json::Value {
    json!({"online": [], "state": "unknown"})
}

/// What to do with the sockets because of `entry`, in order.
pub(super) fn fanouts(entry: Entry, position: &StreamPosition, pacers: &Pacers) -> Vec<Operation> {
    match entry {
        Entry::Message { offset, message, origin } => {
            let backpressure = pacers.of(&message.room);
            said(&message, offset, position, origin, backpressure).into_iter().collect()
        }
        Entry::Joined { room, user } => joined(room, user),
        Entry::Left { room, user } => left(room, user),
        Entry::Archived { room, members } => archived(&room, members),
        Entry::Online { diff, list } => {
            let list = list.map(|online| Presence { online });
            let diff = diff.and_then(|diff| emit(vec![], name::PRESENCE_DIFF, &diff, false));
            let list = list.and_then(|list| emit(vec![], name::PRESENCE, &list, true));
            diff.into_iter().chain(list).collect()
        }
        Entry::OnlineUnknown => emit(vec![], name::PRESENCE, &unknown(), true).into_iter().collect(),
        Entry::Superseded(socket) => {
            vec![Operation::Close { of: socket.room(), reason: CloseReason::Superseded }]
        }
        Entry::Seated { room, user, is_in: true } => {
            vec![Operation::Join { of: of_user(&user), room: of_room(&room) }]
        }
        Entry::Seated { room, user, is_in: false } => {
            vec![Operation::Leave { of: of_user(&user), room: of_room(&room) }]
        }
        Entry::Only { room, members } => only(&room, &members),
        // Who is shown typing depends on what was shown before: [`super::typing`].
        Entry::Typing { .. } | Entry::Changed { .. } | Entry::Reached(_) | Entry::Flushed(_) => vec![],
    }
}

fn said(
    message: &Message,
    offset: Option<u64>,
    position: &StreamPosition,
    origin: Option<SocketId>,
    backpressure: Option<BackpressureToken>,
) -> Option<Operation> {
    let packet = position.encode(message, offset)?;
    let rooms = vec![of_room(&message.room)];
    Some(Operation::Emit(Emit {
        namespace: "/".into(),
        rooms,
        except: origin,
        packet,
        volatile: false,
        backpressure,
    }))
}

impl StreamPosition {
    /// A message as it goes out, now or to a client that comes back for it.
    pub(super) fn encode(&self, message: &Message, offset: Option<u64>) -> Option<Encoded> {
        let packet = encode(name::MESSAGE, message, Some(&self.show(offset)))?;
        // What has no place will have one that nobody knows yet: behind all of them.
        Some(packet.at(offset.unwrap_or(u64::MAX)))
    }
}

/// The newcomer's sockets enter first, so that they hear of it too.
fn joined(room: RoomName, user: Username) -> Vec<Operation> {
    let enter = Operation::Join { of: of_user(&user), room: of_room(&room) };
    let told = emit(vec![of_room(&room)], name::ROOM_JOINED, &Membership { room, username: user }, false);
    [enter].into_iter().chain(told).collect()
}

/// The leaver's sockets leave last, so that they hear of it too.
fn left(room: RoomName, user: Username) -> Vec<Operation> {
    let leave = Operation::Leave { of: of_user(&user), room: of_room(&room) };
    let told = emit(vec![of_room(&room)], name::ROOM_LEFT, &Membership { room, username: user }, false);
    told.into_iter().chain([leave]).collect()
}

/// Everybody hears that they themselves have left.
fn archived(room: &RoomName, members: Vec<Username>) -> Vec<Operation> {
    let told = members.into_iter().filter_map(|user| {
        let to = vec![of_user(&user)];
        emit(to, name::ROOM_LEFT, &Membership { room: room.clone(), username: user }, false)
    });
    let leave = Operation::Leave { of: of_room(room), room: of_room(room) };
    told.chain([leave]).collect()
}

/// Everybody leaves, and the members enter again: in one batch, so no message comes in between.
fn only(room: &RoomName, members: &[Username]) -> Vec<Operation> {
    let leave = Operation::Leave { of: of_room(room), room: of_room(room) };
    let enter = members.iter().map(|user| Operation::Join { of: of_user(user), room: of_room(room) });
    [leave].into_iter().chain(enter).collect()
}

/// One event without a place in the log; no rooms means everybody. No room waits for clients that fall behind with it.
fn emit(rooms: Vec<Room>, event: &str, payload: &impl Serialize, volatile: bool) -> Option<Operation> {
    let packet = encode(event, payload, None)?;
    let backpressure = Some(BackpressureToken::new().0);
    Some(Operation::Emit(Emit { namespace: "/".into(), rooms, except: None, packet, volatile, backpressure }))
}

/// An event of one argument, and the offset behind it when it has one; none when it does not encode, which is logged.
pub fn encode(event: &str, payload: &impl Serialize, offset: Option<&str>) -> Option<Encoded> {
    match Encoded::event("/", event, &(payload,), offset) {
        Ok(packet) => Some(packet),
        Err(error) => {
            tracing::error!(event, %error, "an event does not encode");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::{Timestamp, event::Body};

    use super::*;

    fn position() -> StreamPosition {
        StreamPosition::new("e", 0)
    }

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    fn message() -> Message {
        Message {
            id: "m".into(),
            room: RoomName::lobby(),
            seq: 3,
            from: user("alice"),
            data: Body { text: "hi".into() },
            timestamp: Timestamp(0),
        }
    }

    fn sketch(fanout: &Operation) -> String {
        match fanout {
            Operation::Emit(cast) => {
                format!("emit to {}{}", cast.rooms.join(","), if cast.volatile { "?" } else { "" })
            }
            Operation::Join { of, room } => format!("{of} enters {room}"),
            Operation::Leave { of, room } => format!("{of} leaves {room}"),
            Operation::Disconnect { of, .. } | Operation::Close { of, .. } => format!("{of} is cut"),
            other => panic!("{other:?}"),
        }
    }

    fn sketches(entry: Entry) -> Vec<String> {
        fanouts(entry, &position(), &Pacers::default()).iter().map(sketch).collect()
    }

    #[test]
    fn a_message_goes_to_its_room_with_its_offset() {
        let message = message();
        let entry = Entry::Message { offset: Some(9), message: message.clone(), origin: None };
        let made = fanouts(entry, &position(), &Pacers::default());
        let [Operation::Emit(cast)] = &made[..] else {
            panic!("{:?}", made.iter().map(sketch).collect::<Vec<_>>())
        };
        assert_eq!((&*cast.rooms[0], cast.volatile), ("room:lobby", false));
        assert!(cast.backpressure.is_none(), "another node wrote it");
        assert_eq!(cast.packet, Encoded::event("/", "message", &(message,), Some("e-9")).unwrap().at(9));
    }

    #[test]
    fn a_message_carries_the_mark_of_its_own_room() {
        let (pacers, message) = (Pacers::default(), message());
        let _elsewhere = pacers.begin(&"tea".parse().unwrap());
        let _pacing = pacers.begin(&message.room);
        let mark = pacers.of(&message.room).unwrap();
        let made = fanouts(Entry::Message { offset: Some(9), message, origin: None }, &position(), &pacers);
        assert!(
            matches!(&made[..], [Operation::Emit(cast)] if cast.backpressure.as_ref().is_some_and(|of| of.is(&mark)))
        );
    }

    #[test]
    fn a_newcomer_hears_the_welcome_and_a_leaver_the_farewell() {
        let (room, alice) = (RoomName::lobby(), user("Alice"));
        let joined = sketches(Entry::Joined { room: room.clone(), user: alice.clone() });
        assert_eq!(joined, ["user:alice enters room:lobby", "emit to room:lobby"]);
        let left = sketches(Entry::Left { room, user: alice });
        assert_eq!(left, ["emit to room:lobby", "user:alice leaves room:lobby"]);
    }

    #[test]
    fn everybody_leaves_an_archived_room() {
        let told = sketches(Entry::Archived { room: RoomName::lobby(), members: vec![user("a"), user("b")] });
        assert_eq!(told, ["emit to user:a", "emit to user:b", "room:lobby leaves room:lobby"]);
    }

    #[test]
    fn a_room_is_seated_anew() {
        let told = sketches(Entry::Only { room: RoomName::lobby(), members: vec![user("a")] });
        assert_eq!(told, ["room:lobby leaves room:lobby", "user:a enters room:lobby"]);
    }

    #[test]
    fn a_list_may_be_lost_and_a_diff_may_not() {
        let diff = proto::event::PresenceDiff { joined: vec!["a".into()], left: vec![], count: 1 };
        let told = sketches(Entry::Online { diff: Some(diff), list: Some(vec!["a".into()]) });
        assert_eq!(told, ["emit to ", "emit to ?"]);
    }
}

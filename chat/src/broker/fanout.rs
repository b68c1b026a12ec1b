//! Converts entries into operations on sockets: the recipients and the payload, encoded once. Pure. Called by
//! [`super::fanout_actor`] through [`super::typing`].

use proto::{
    RoomName, Username,
    event::{Change, Membership, Message, Presence, name},
};
use serde::Serialize;
use serde_json::json;
use socketio::{BackpressureToken, CloseReason, Emit, Encoded, Operation, Room, SocketId};

use super::{
    Control, Entry, RoomEvent, RoomEventKind, Signal, StreamPosition, room_backpressure::RoomTokens,
};
use crate::{
    directory::{ChangeKind, RoomChange},
    history::MissedChange,
};

/// The group of the sockets of a room's members.
pub fn member_sockets(room: &RoomName) -> Room {
    format!("room:{room}").into()
}

/// The group of a user's sockets.
pub fn user_sockets(user: &Username) -> Room {
    format!("user:{}", user.key()).into()
}

/// The group of the sockets that were opened with one session. `session` is the id of the session.
pub fn session_sockets(session: &str) -> Room {
    format!("session:{session}").into()
}

/// The payload of `presence` while the online users are unknown. It has no names, because a stale list would be wrong.
pub fn presence_unknown() -> serde_json::Value {
    json!({"online": [], "state": "unknown"})
}

/// The operations on sockets that deliver `entry`, in order.
pub(super) fn operations(entry: Entry, position: &StreamPosition, tokens: &RoomTokens) -> Vec<Operation> {
    match entry {
        Entry::Event(event) => event_operations(event, position, tokens),
        Entry::Signal(signal) => signal_operations(signal),
        Entry::Control(control) => control_operations(control),
    }
}

fn event_operations(event: RoomEvent, position: &StreamPosition, tokens: &RoomTokens) -> Vec<Operation> {
    let RoomEvent { offset, is_resumable, kind } = event;
    let at = LogPosition { position, offset, is_resumable };
    match kind {
        RoomEventKind::Message { message, origin } => {
            let backpressure = tokens.of(&message.room);
            message_stored(&message, at, origin, backpressure).into_iter().collect()
        }
        RoomEventKind::Change(change) => changed(&change, at),
    }
}

fn signal_operations(signal: Signal) -> Vec<Operation> {
    match signal {
        Signal::Online { diff, list } => {
            let list = list.map(|online| Presence { online });
            let diff = diff.and_then(|diff| emit(vec![], name::PRESENCE_DIFF, &diff, false));
            let list = list.and_then(|list| emit(vec![], name::PRESENCE, &list, true));
            diff.into_iter().chain(list).collect()
        }
        Signal::OnlineUnknown => {
            emit(vec![], name::PRESENCE, &presence_unknown(), true).into_iter().collect()
        }
        // Depends on the lists that were sent before, so [`super::typing`] converts it.
        Signal::Typing { .. } => vec![],
    }
}

fn control_operations(control: Control) -> Vec<Operation> {
    match control {
        Control::Superseded(socket) => {
            vec![Operation::Close { of: socket.room(), reason: CloseReason::Superseded }]
        }
        Control::SetMembership { room, user, is_member: true } => {
            vec![Operation::Join { of: user_sockets(&user), room: member_sockets(&room) }]
        }
        Control::SetMembership { room, user, is_member: false } => {
            vec![Operation::Leave { of: user_sockets(&user), room: member_sockets(&room) }]
        }
        Control::SetMembers { room, members } => set_members(&room, &members),
        Control::Reached(_) | Control::Flushed(_) => vec![],
    }
}

/// The place of an event in the log.
#[derive(Clone, Copy)]
struct LogPosition<'a> {
    position: &'a StreamPosition,
    /// As [`RoomEvent::offset`].
    offset: Option<u64>,
    /// As [`RoomEvent::is_resumable`].
    is_resumable: bool,
}

fn message_stored(
    message: &Message,
    at: LogPosition<'_>,
    origin: Option<SocketId>,
    backpressure: Option<BackpressureToken>,
) -> Option<Operation> {
    let packet = at.position.encode(message, at.offset, at.is_resumable)?;
    let rooms = vec![member_sockets(&message.room)];
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
    /// The event of a message, for live delivery and for recovery. Unless it `is_resumable`, its last argument is an offset from which no
    /// client recovers. `None` when it cannot be encoded, which is logged.
    pub(super) fn encode(
        &self,
        message: &Message,
        offset: Option<u64>,
        is_resumable: bool,
    ) -> Option<Encoded> {
        let text = self.format(offset.filter(|_| is_resumable));
        let packet = encode(name::MESSAGE, message, Some(&text))?;
        // A message without an offset gets one later, which is greater than all offsets so far.
        Some(packet.at(offset.unwrap_or(u64::MAX)))
    }

    /// The event of a change, for live delivery and for recovery. Without an offset it is not ordered with the messages; clients order
    /// it by its number. Unless it `is_resumable`, it has no argument with the offset, so a client keeps its earlier one.
    /// `None` when it cannot be encoded, which is logged.
    pub(super) fn encode_change(
        &self,
        change: &Change,
        offset: Option<u64>,
        is_resumable: bool,
    ) -> Option<Encoded> {
        let text = offset.filter(|_| is_resumable).map(|offset| self.format(Some(offset)));
        let packet = encode(name::CHANGE, change, text.as_deref())?;
        Some(offset.map_or(packet.clone(), |offset| packet.at(offset)))
    }

    /// The events of a change, for recovery: those of memberships that have begun or ended, then the change itself.
    pub(super) fn encode_missed_change(&self, missed: &MissedChange, offset: u64) -> Vec<Encoded> {
        let MissedChange { change, memberships, is_last } = missed;
        let memberships = memberships.iter().filter_map(|member| {
            let event = if member.role.is_some() { name::ROOM_JOINED } else { name::ROOM_LEFT };
            let payload = Membership {
                room: change.room.clone(),
                username: member.username.clone(),
                rev: change.rev,
                role: member.role,
                by: None,
            };
            encode(event, &payload, None).map(|packet| packet.at(offset))
        });
        memberships.chain(self.encode_change(change, Some(offset), *is_last)).collect()
    }
}

/// The sockets of a new member join before the events, and those of a former member leave after them, so that they receive them too.
fn changed(change: &RoomChange, at: LogPosition<'_>) -> Vec<Operation> {
    let LogPosition { position, offset, is_resumable } = at;
    let (room, members) = (&change.room, member_sockets(&change.room));
    let event = position.encode_change(&change.event(), offset, is_resumable);
    let membership = |name, user: &Username| {
        let payload = membership(change, user);
        let packet = encode(name, &payload, None)?;
        Some(offset.map_or(packet.clone(), |offset| packet.at(offset)))
    };
    let mut first = Vec::new();
    match &change.what {
        ChangeKind::Joined(user) => {
            first.push(Operation::Join { of: user_sockets(user), room: members });
            first.extend(membership(name::ROOM_JOINED, user).map(|packet| to_members(room, packet)));
        }
        ChangeKind::Left(user) => {
            // The sockets of the former member may have left the room already.
            let groups = vec![member_sockets(room), user_sockets(user)];
            first.extend(membership(name::ROOM_LEFT, user).map(|packet| to(groups.clone(), packet)));
            let event = event.map(|packet| to(groups, packet));
            let leave = Operation::Leave { of: user_sockets(user), room: members };
            return first.into_iter().chain(event).chain([leave]).collect();
        }
        // Each member receives the event of their own leaving only.
        ChangeKind::Archived => {
            for user in &change.members {
                let left = membership(name::ROOM_LEFT, user).into_iter().chain(event.clone());
                first.extend(left.map(|packet| to(vec![user_sockets(user)], packet)));
            }
            first.push(Operation::Leave { of: members.clone(), room: members });
            return first;
        }
        ChangeKind::Other => {}
    }
    first.into_iter().chain(event.map(|packet| to_members(room, packet))).collect()
}

/// The payload of `room:joined` or `room:left` for a user whose membership began or ended with `change`.
fn membership(change: &RoomChange, user: &Username) -> Membership {
    Membership {
        room: change.room.clone(),
        username: user.clone(),
        rev: change.rev,
        role: change.role_of(user),
        by: change.by_other_than(user),
    }
}

fn to_members(room: &RoomName, packet: Encoded) -> Operation {
    to(vec![member_sockets(room)], packet)
}

/// Sends one event to groups of sockets. Its backpressure token has no waiter: no room waits for clients that are slow to receive it.
fn to(rooms: Vec<Room>, packet: Encoded) -> Operation {
    let backpressure = Some(BackpressureToken::new().0);
    Operation::Emit(Emit {
        namespace: "/".into(),
        rooms,
        except: None,
        packet,
        volatile: false,
        backpressure,
    })
}

/// All sockets leave, and those of the members join again. Both are in one batch, so no message is delivered between them.
fn set_members(room: &RoomName, members: &[Username]) -> Vec<Operation> {
    let leave = Operation::Leave { of: member_sockets(room), room: member_sockets(room) };
    let joins =
        members.iter().map(|user| Operation::Join { of: user_sockets(user), room: member_sockets(room) });
    [leave].into_iter().chain(joins).collect()
}

/// One event without an offset. With empty `rooms` it goes to all sockets. Its backpressure token has no waiter: no room waits for
/// clients that are slow to receive it.
fn emit(rooms: Vec<Room>, event: &str, payload: &impl Serialize, volatile: bool) -> Option<Operation> {
    let packet = encode(event, payload, None)?;
    let backpressure = Some(BackpressureToken::new().0);
    Some(Operation::Emit(Emit { namespace: "/".into(), rooms, except: None, packet, volatile, backpressure }))
}

/// An event of one argument, followed by the offset if there is one. `None` when the payload cannot be encoded, which is logged.
pub fn encode(event: &str, payload: &impl Serialize, offset: Option<&str>) -> Option<Encoded> {
    match Encoded::event("/", event, &(payload,), offset) {
        Ok(packet) => Some(packet),
        Err(error) => {
            tracing::error!(event, %error, "an event cannot be encoded and is not sent");
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

    fn describe(operation: &Operation) -> String {
        match operation {
            Operation::Emit(emit) => {
                format!("emit to {}{}", emit.rooms.join(","), if emit.volatile { "?" } else { "" })
            }
            Operation::Join { of, room } => format!("{of} joins {room}"),
            Operation::Leave { of, room } => format!("{of} leaves {room}"),
            Operation::Disconnect { of, .. } | Operation::Close { of, .. } => format!("{of} is disconnected"),
            other => panic!("{other:?}"),
        }
    }

    fn described(entry: impl Into<Entry>) -> Vec<String> {
        operations(entry.into(), &position(), &RoomTokens::default()).iter().map(describe).collect()
    }

    #[test]
    fn a_message_is_sent_to_its_room_with_its_offset() {
        let message = message();
        let entry = RoomEvent::message(message.clone(), None, Some(9));
        let operations = operations(entry.into(), &position(), &RoomTokens::default());
        let [Operation::Emit(emit)] = &operations[..] else {
            panic!("{:?}", operations.iter().map(describe).collect::<Vec<_>>())
        };
        assert_eq!((&*emit.rooms[0], emit.volatile), ("room:lobby", false));
        assert!(emit.backpressure.is_none(), "another node published it");
        assert_eq!(emit.packet, Encoded::event("/", "message", &(message,), Some("e-9")).unwrap().at(9));
    }

    #[test]
    fn a_message_has_the_backpressure_token_of_its_own_room() {
        let (tokens, message) = (RoomTokens::default(), message());
        let _other_room = tokens.begin(&"tea".parse().unwrap());
        let _pending = tokens.begin(&message.room);
        let token = tokens.of(&message.room).unwrap();
        let operations = operations(RoomEvent::message(message, None, Some(9)).into(), &position(), &tokens);
        assert!(
            matches!(&operations[..], [Operation::Emit(emit)] if emit.backpressure.as_ref().is_some_and(|of| of.is(&token)))
        );
    }

    fn change(what: ChangeKind, members: Vec<Username>) -> RoomEvent {
        let (room, items) = (RoomName::lobby(), vec![]);
        let change = RoomChange { room, rev: 4, what, by: None, items, members, offset: Some(9) };
        RoomEvent::change(change, Some(9))
    }

    #[test]
    fn new_and_former_members_receive_their_own_membership_events() {
        let alice = user("Alice");
        let joined = described(change(ChangeKind::Joined(alice.clone()), vec![]));
        assert_eq!(joined, ["user:alice joins room:lobby", "emit to room:lobby", "emit to room:lobby"]);
        let left = described(change(ChangeKind::Left(alice), vec![]));
        let both = "emit to room:lobby,user:alice";
        assert_eq!(left, [both, both, "user:alice leaves room:lobby"]);
    }

    #[test]
    fn all_sockets_leave_an_archived_room() {
        let operations = described(change(ChangeKind::Archived, vec![user("a"), user("b")]));
        let (a, b) = ("emit to user:a", "emit to user:b");
        let expected = [a, a, b, b, "room:lobby leaves room:lobby"];
        assert_eq!(operations, expected);
    }

    #[test]
    fn a_change_has_its_offset_as_last_argument_and_the_membership_event_has_none() {
        let entry = change(ChangeKind::Left(user("alice")), vec![]);
        let operations = operations(entry.into(), &position(), &RoomTokens::default());
        let packets = operations.iter().filter_map(|operation| match operation {
            Operation::Emit(emit) => Some(emit.packet.clone()),
            _ => None,
        });
        let left = serde_json::json!({"room": "lobby", "username": "alice", "rev": 4});
        let changed = serde_json::json!({"room": "lobby", "rev": 4, "after": 3, "items": []});
        let text = |packet: Encoded| format!("{packet:?}");
        let expected =
            [("room:left", left, None), ("change", changed, Some("e-9"))].map(|(name, value, offset)| {
                text(Encoded::event("/", name, &(value,), offset).unwrap().at(9)).len()
            });
        assert_eq!(packets.map(|packet| text(packet).len()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn set_members_unsubscribes_all_other_sockets() {
        let operations = described(Control::SetMembers { room: RoomName::lobby(), members: vec![user("a")] });
        assert_eq!(operations, ["room:lobby leaves room:lobby", "user:a joins room:lobby"]);
    }

    #[test]
    fn a_list_is_volatile_and_a_diff_is_not() {
        let diff = proto::event::PresenceDiff { joined: vec!["a".into()], left: vec![], count: 1 };
        let operations = described(Signal::Online { diff: Some(diff), list: Some(vec!["a".into()]) });
        assert_eq!(operations, ["emit to ", "emit to ?"]);
    }
}

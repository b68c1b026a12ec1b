//! `docs/asyncapi.yaml` against the Rust types: every example of a payload is what the type of its message reads or writes, and the names
//! of the events are the constants of `proto::event::name`.

use std::collections::BTreeMap;

use proto::{
    Code, Object, RoomName, Timestamp, Username,
    event::{
        Body, Change, History, Item, Join, Leave, MemberState, Membership, Message, Post, Presence,
        PresenceDiff, Refused, Role, RoomKind, RoomState, SetTyping, Settings, Typing, Welcome, name,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const DOCUMENT: &str = include_str!("../../docs/asyncapi.yaml");

/// A message of the document.
#[derive(Debug, Default)]
struct Documented {
    name: String,
    examples: Vec<Value>,
}

/// The messages of `components.messages` by their key. An example is a line `payload: ` with JSON.
fn documented() -> BTreeMap<&'static str, Documented> {
    let (_, messages) = DOCUMENT.split_once("\ncomponents:\n").expect("a section");
    let (_, messages) = messages.split_once("\n  messages:\n").expect("a section");
    let (messages, _) = messages.split_once("\n  schemas:\n").expect("a section");
    let mut found: BTreeMap<&str, Documented> = BTreeMap::new();
    let mut key = "";
    for line in messages.lines() {
        let indent = line.len() - line.trim_start().len();
        if indent == 4 {
            key = line.trim().trim_end_matches(':');
        }
        let message = found.entry(key).or_default();
        if let Some(name) = line.strip_prefix("      name: ") {
            name.clone_into(&mut message.name);
        }
        if let Some(payload) = line.strip_prefix("          payload: ") {
            let example = serde_json::from_str(payload).unwrap_or_else(|error| panic!("{line}: {error}"));
            message.examples.push(example);
        }
    }
    found
}

/// Removes a message, checks its name and returns its examples.
fn take(messages: &mut BTreeMap<&str, Documented>, key: &str, name: &str) -> Vec<Value> {
    let message = messages.remove(key).unwrap_or_else(|| panic!("{key} is not in the document"));
    assert_eq!(message.name, name, "{key}");
    assert!(!message.examples.is_empty(), "{key} has no example");
    message.examples
}

/// Every example is a `T` and has no other fields than `fields`. Together the examples have all of them. `destructure` names the fields of the
/// type: a new field does not compile until it is added to the test.
fn reads<T: DeserializeOwned>(examples: &[Value], fields: &[&str], _destructure: fn(T)) {
    let read = |payload: &Value| serde_json::from_value::<Object<T>>(payload.clone());
    let mut unused = fields.to_vec();
    for example in examples {
        assert!(read(example).is_ok(), "{example}: {:?}", read(example).err());
        for key in example.as_object().into_iter().flatten().map(|(key, _)| key) {
            assert!(fields.contains(&key.as_str()), "{example}: {key} is not a field");
            unused.retain(|field| field != key);
            // Unknown fields are ignored, so only a field of the type can have an invalid value.
            let mut invalid = example.clone();
            invalid[key] = json!({"no": "field is an object"});
            assert!(read(&invalid).is_err(), "{key} is not a field of the type");
        }
    }
    assert_eq!(unused, [""; 0], "no example of {examples:?} has these fields");
}

/// The only example is what the value serializes to.
fn writes(examples: &[Value], value: &impl Serialize) {
    assert_eq!(examples, [serde_json::to_value(value).expect("a value serializes")]);
}

fn user(name: &str) -> Username {
    name.parse().expect("a name")
}

fn check_server_events(messages: &mut BTreeMap<&str, Documented>) {
    let timestamp = Timestamp(1_767_225_600_007);
    let welcome = Welcome { message: "Welcome alice!".into(), username: user("alice"), timestamp };
    writes(&take(messages, "welcome", name::WELCOME), &welcome);
    let message = Message {
        id: "0f8b2c6d4e1a4c7f9b3d5e7a1c2f4b6d".into(),
        room: RoomName::lobby(),
        seq: 7,
        from: user("alice"),
        data: Body { text: "hello".into() },
        timestamp,
    };
    writes(&take(messages, "message", name::MESSAGE), &message);
    let online = vec!["alice".into(), "bob".into()];
    writes(&take(messages, "presence", name::PRESENCE), &Presence { online });
    let diff = PresenceDiff { joined: vec!["alice".into()], left: vec!["bob".into()], count: 1 };
    writes(&take(messages, "presenceDiff", name::PRESENCE_DIFF), &diff);
    let typing = Typing { users: vec!["alice".into()], room: "lobby".into() };
    writes(&take(messages, "typing", name::TYPING), &typing);
    let (room, username): (RoomName, _) = ("tea".parse().expect("a name"), user("bob"));
    let left = Membership { room: room.clone(), username, rev: 3, role: None, by: None };
    let joined = Membership { rev: 2, role: Some(Role::Member), by: Some(user("alice")), ..left.clone() };
    writes(&take(messages, "roomJoined", name::ROOM_JOINED), &joined);
    writes(&take(messages, "roomLeft", name::ROOM_LEFT), &left);
    let (kind, owner) = (RoomKind::Room, Some(user("bob")));
    let settings = Settings { private: true, ephemeral: false };
    let settings = RoomState { kind, settings, owner, member_count: 1 };
    let member = |name, role, by| Item::Member { member: MemberState { username: user(name), role }, by };
    let items = vec![
        Item::Room { settings: Some(settings), by: Some(user("alice")) },
        member("alice", None, None),
        member("bob", Some(Role::Owner), Some(user("alice"))),
    ];
    let change = Change { room, rev: 3, after: 2, items };
    writes(&take(messages, "change", name::CHANGE), &change);
    let refused = Refused::new(Code::RateLimited, "too many messages: try again later");
    writes(&take(messages, "error", name::ERROR), &Refused { retry_after: Some(0.5), ..refused });
}

fn check_client_events(messages: &mut BTreeMap<&str, Documented>) {
    let fields = ["text", "room", "clientId"];
    reads(&take(messages, "post", name::MESSAGE), &fields, |Post { text: _, room: _, client_id: _ }| ());
    let fields = ["isTyping", "room"];
    reads(&take(messages, "setTyping", name::TYPING), &fields, |SetTyping { is_typing: _, room: _ }| ());
    let fields = ["room", "since", "offset", "rev", "oldest", "types", "enter"];
    reads(
        &take(messages, "join", name::JOIN),
        &fields,
        |Join { room: _, since: _, offset: _, rev: _, oldest: _, types: _, enter: _ }| (),
    );
    reads(&take(messages, "leave", name::LEAVE), &["room"], |Leave { room: _ }| ());
    let fields = ["room", "before", "after", "limit", "offset"];
    reads(
        &take(messages, "history", name::HISTORY),
        &fields,
        |History { room: _, before: _, after: _, limit: _, offset: _ }| (),
    );
}

#[test]
fn the_examples_of_the_document_are_payloads_of_the_rust_types() {
    let mut messages = documented();
    check_server_events(&mut messages);
    check_client_events(&mut messages);
    let refused = Refused::new(Code::TooLarge, "text is over 8192 bytes");
    writes(&take(&mut messages, "refusedAck", "ack of a refused event"), &refused);
    // The types of these are in other crates: tests/interop/asyncapi.py checks them against the running server.
    let elsewhere: Vec<&str> = messages.into_keys().collect();
    assert_eq!(elsewhere, ["connect", "connectError", "doneAck", "historyAck", "joinAck", "postAck"]);
}

#[test]
fn the_codes_of_the_document_are_those_of_the_enum() {
    let codes = [
        Code::BadRequest,
        Code::Unauthorized,
        Code::Forbidden,
        Code::NotFound,
        Code::Conflict,
        Code::TooLarge,
        Code::RateLimited,
        Code::Unavailable,
    ];
    let codes = codes.map(|code| json!(code).as_str().expect("text").to_owned()).join(", ");
    assert!(DOCUMENT.contains(&format!("\n      enum: [{codes}]\n")), "{codes}");
}

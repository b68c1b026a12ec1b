//! The log without sockets: what a session that was disconnected receives, and when it is not recovered.

use std::time::Duration;

use super::*;
use crate::{
    Encoded, Recovery,
    app::Resume,
    operation::{Operation, Target},
    socket::{Leaving, Position, SocketId},
};

fn log(limits: Recovery) -> Log {
    Log::new(limits, 10_000).unwrap()
}

fn sid(name: &str) -> SocketId {
    SocketId::from_stored(name)
}

fn event(name: &str) -> Encoded {
    Encoded::event("/", name, &(), None).unwrap()
}

/// Publishes an event. Returns its offset.
fn publish(log: &Log, to: Target, packet: &Encoded, volatile: bool) -> Option<String> {
    log.publish(vec![Operation::Send { to, packet: packet.clone(), volatile }], |batch, _| {
        let [Operation::Send { packet, .. }] = &batch[..] else { panic!("one event") };
        offset(packet)
    })
}

/// The last argument of an event, if it is a string.
fn offset(packet: &Encoded) -> Option<String> {
    let text = String::from_utf8_lossy(&packet.frames()).into_owned();
    let args: Vec<serde_json::Value> = serde_json::from_str(&text[text.find('[').unwrap()..]).unwrap();
    args.last().unwrap().as_str().filter(|last| last.contains('.')).map(str::to_owned)
}

fn to(room: &str) -> Target {
    Target::room("/", room.into())
}

/// A session whose client has left `rooms` after the event at `sent`.
fn leave(log: &Log, pid: &str, rooms: &[&str], sent: Position) {
    let rooms = rooms.iter().map(|room| (*room).into()).collect();
    let through = log.at_rest(|last| last);
    let (through, read) = (log.position(through), ReadPosition::Unknown);
    log.disconnect(pid, Leaving { rooms, sent, through, read });
}

fn start(log: &Log, pid: &str) -> Position {
    let since = log.position(log.at_rest(|last| last));
    log.add(pid, sid(pid), "/", since);
    since
}

/// The names of the missed events.
fn resume(log: &Log, pid: &str, offset: Option<&str>) -> Result<Vec<String>, &'static str> {
    resume_in(log, pid, offset, "/")
}

fn resume_in(
    log: &Log,
    pid: &str,
    offset: Option<&str>,
    namespace: &str,
) -> Result<Vec<String>, &'static str> {
    let resume = Resume { pid: pid.into(), offset: offset.map(str::to_owned) };
    let (_, recovered, _) = log.resume(&resume, namespace)?;
    let name = |packet: &Encoded| {
        let text = String::from_utf8_lossy(&packet.frames()).into_owned();
        text[text.find('[').unwrap()..].split('"').nth(1).unwrap().to_owned()
    };
    Ok(recovered.missed.iter().map(name).collect())
}

#[test]
fn a_session_receives_exactly_the_missed_events_of_its_rooms() {
    let log = log(Recovery::in_memory());
    let since = start(&log, "alice");
    let received = publish(&log, to("a"), &event("received"), false).unwrap();
    leave(&log, "alice", &["a"], since);
    let all = || Target::all("/");
    for (to, name) in [
        (to("a"), "room"),
        (to("b"), "other room"),
        (to("alice"), "own room"),
        (all(), "all"),
        (Target::all("/x"), "other namespace"),
        (all().except("alice".into()), "all but the client"),
        (all().except("a".into()), "all but the room"),
        (Target { within: Some("a".into()), ..all() }, "within the room"),
        (Target { within: Some("b".into()), ..all() }, "within another room"),
    ] {
        publish(&log, to, &event(name), false).unwrap();
    }
    publish(&log, all(), &event("volatile"), true);
    log.direct(&sid("alice"), &event("direct"), 1).unwrap();
    log.direct(&sid("bob"), &event("direct to another"), 1).unwrap();
    let missed = ["direct", "room", "own room", "all", "within the room"];
    assert_eq!(resume(&log, "alice", Some(&received)).unwrap(), missed, "in the order of their positions");
}

#[test]
fn a_session_without_an_offset_recovers_from_its_connect() {
    let log = log(Recovery::in_memory());
    let before = publish(&log, Target::all("/"), &event("before"), false).unwrap();
    start(&log, "alice");
    publish(&log, Target::all("/"), &event("missed"), false);
    leave(&log, "alice", &[], Position::broadcast(2));
    for offset in [None, Some(before.as_str())] {
        assert_eq!(resume(&log, "alice", offset), Ok(vec!["missed".to_owned()]));
    }
    let old = format!("{}.0", before.split('.').next().unwrap());
    assert_eq!(resume(&log, "alice", Some(&old)), Ok(vec!["missed".to_owned()]), "not before its connect");
    assert_eq!(resume(&log, "unknown", None), Err("the session is unknown"));
}

#[test]
fn a_session_that_is_resumed_or_connected_is_in_use() {
    let log = log(Recovery::in_memory());
    let since = start(&log, "alice");
    let name = Resume { pid: "alice".into(), offset: None };
    assert!(log.resume(&name, "/").is_err(), "connected");
    leave(&log, "alice", &["a"], since);
    let (resuming, ..) = log.resume(&name, "/").unwrap();
    assert_eq!(resuming.rooms(), ["a".into()]);
    assert_eq!(resume(&log, "alice", None), Err("the session is in use"));
    drop(resuming);
    let (resuming, ..) = log.resume(&name, "/").expect("a CONNECT that failed leaves the session");
    resuming.finish();
    assert_eq!(resume(&log, "alice", None), Err("the session is in use"));
    assert_eq!(log.connected_socket("alice", "/"), Some(sid("alice")));
    log.remove("alice");
    assert!(!log.contains("alice"));
}

#[test]
fn a_session_is_not_recovered_in_part() {
    let limits = [
        Recovery { max_events: 3, ..Recovery::in_memory() },
        Recovery { max_bytes: 3 * 180, ..Recovery::in_memory() },
    ];
    for limits in limits {
        let log = log(limits);
        start(&log, "alice");
        let first = publish(&log, to("alice"), &event("first"), false).unwrap();
        let second = publish(&log, to("alice"), &event("second"), false).unwrap();
        leave(&log, "alice", &[], Position::broadcast(2));
        for name in ["third", "fourth"] {
            publish(&log, to("alice"), &event(name), false);
        }
        assert_eq!(resume(&log, "alice", Some(&second)).unwrap(), ["third", "fourth"]);
        assert_eq!(resume(&log, "alice", Some(&first)).unwrap(), ["second", "third", "fourth"]);
        log.direct(&sid("bob"), &event("direct"), 4).unwrap();
        let dropped = Err("the log does not contain all missed events");
        assert_eq!(resume(&log, "alice", Some(&first)), dropped);
        assert_eq!(resume(&log, "alice", None), dropped);
        assert_eq!(resume(&log, "alice", Some(&second)), Ok(vec!["third".into(), "fourth".into()]));
    }
}

#[test]
fn a_client_misses_at_most_the_bytes_of_a_send_queue() {
    let log = log(Recovery::in_memory());
    let since = start(&log, "alice");
    leave(&log, "alice", &[], since);
    let large = Encoded::event("/", "large", &("x".repeat(4000),), None).unwrap();
    publish(&log, to("alice"), &large, false);
    publish(&log, to("alice"), &large, false);
    assert_eq!(resume(&log, "alice", None).unwrap(), ["large", "large"]);
    publish(&log, to("alice"), &large, false);
    assert!(resume(&log, "alice", None).is_err());
}

#[test]
fn offsets_of_other_logs_and_invalid_ones_are_refused() {
    let other = log(Recovery::in_memory());
    let log = log(Recovery::in_memory());
    let since = start(&log, "alice");
    let own = publish(&log, to("alice"), &event("received"), false).unwrap();
    let foreign = publish(&other, to("alice"), &event("of another log"), false).unwrap();
    leave(&log, "alice", &[], since);
    let beyond = own.replace(".1", ".2");
    let invalid = own.replace(".1", ".-1");
    for bad in [foreign.as_str(), &beyond, &invalid, "", "x", "hello world", "1.1", &format!("{own}.x")] {
        assert!(resume(&log, "alice", Some(bad)).is_err(), "{bad}");
    }
    let through = log.position(1);
    let at = |read| Leaving { rooms: vec![], sent: Position::broadcast(1), through, read };
    log.disconnect("alice", at(ReadPosition::At(Position::broadcast(1))));
    publish(&log, to("alice"), &event("missed"), false);
    for bad in ["", "x", "hello world", &invalid] {
        assert_eq!(resume(&log, "alice", Some(bad)).unwrap(), ["missed"], "the read position replaces {bad}");
    }
    assert!(resume(&log, "alice", Some(&foreign)).is_err());
}

#[test]
fn a_volatile_event_has_an_offset_only_if_clients_would_store_its_last_argument() {
    let log = log(Recovery::in_memory());
    let since = start(&log, "alice");
    let volatile = |args: serde_json::Value| {
        publish(&log, to("alice"), &Encoded::event("/", "typing", &args, None).unwrap(), true)
    };
    assert_eq!(volatile(serde_json::json!([true])), None);
    let offset = volatile(serde_json::json!(["alice"])).unwrap();
    leave(&log, "alice", &[], since);
    assert_eq!(resume(&log, "alice", Some(&offset)), Ok(vec![]));
    assert_eq!(resume(&log, "alice", None), Ok(vec![]), "it is not stored");
}

#[test]
fn sessions_and_events_are_dropped_after_the_window() {
    let log = log(Recovery { window: Duration::ZERO, ..Recovery::in_memory() });
    let since = start(&log, "alice");
    start(&log, "connected");
    publish(&log, to("alice"), &event("missed"), false);
    leave(&log, "alice", &[], since);
    while log.contains("alice") || log.event_count() > 0 {
        log.expire();
    }
    assert!(log.contains("connected"));
}

#[test]
fn disconnected_sessions_are_bounded() {
    let log = log(Recovery { max_sessions: 2, ..Recovery::in_memory() });
    for pid in ["a", "b", "c", "connected"] {
        start(&log, pid);
    }
    let since = Position::default();
    for _ in 0..3 {
        for pid in ["a", "b"] {
            leave(&log, pid, &[], since);
            let resume = Resume { pid: pid.into(), offset: None };
            log.resume(&resume, "/").unwrap().0.finish();
        }
    }
    ["a", "b", "c"].iter().for_each(|pid| leave(&log, pid, &[], since));
    assert_eq!(["a", "b", "c", "connected"].map(|pid| log.contains(pid)), [false, true, true, true]);
    assert_eq!(log.session_counts(), (3, 2));
    let rooms: Vec<_> = (0..1025).map(|room| room.to_string()).collect();
    let rooms: Vec<_> = rooms.iter().map(String::as_str).collect();
    leave(&log, "connected", &rooms, since);
    assert!(!log.contains("connected"), "a session in too many rooms");
}

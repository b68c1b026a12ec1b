//! The machine as a table: what the client says, what follows.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn machine() -> Machine {
    Machine::new(&Config::default())
}

fn joined() -> Machine {
    let mut machine = machine();
    assert_eq!(machine.text("40"), Ok(Effect::Connect { namespace: "/".into(), auth: json!({}) }));
    machine.joined("/");
    machine
}

#[test]
fn a_client_connects_then_speaks_then_leaves() {
    let mut machine = joined();
    let event = Effect::Event {
        namespace: "/".into(),
        id: Some(3),
        args: vec![json!("hi"), json!(1)],
        attachments: Vec::new(),
    };
    assert_eq!(machine.text("423[\"hi\",1]"), Ok(event));
    let ack = Effect::Ack { namespace: "/".into(), id: 9, args: vec![json!("x")], attachments: Vec::new() };
    assert_eq!(machine.text("439[\"x\"]"), Ok(ack));
    assert_eq!(machine.text("41"), Ok(Effect::Leave { namespace: "/".into() }));
    assert_eq!(machine.text("42[\"late\"]"), Ok(Effect::None));
    assert!(matches!(machine.text("40"), Ok(Effect::Connect { .. })), "and may come back");
}

#[test]
fn binary_arguments_come_with_their_event() {
    let mut machine = joined();
    assert_eq!(machine.text("451-[\"a\",{\"_placeholder\":true,\"num\":0}]"), Ok(Effect::None));
    assert_eq!(machine.text("3"), Ok(Effect::Pong), "a heartbeat may come in between");
    let Ok(Effect::Event { attachments, .. }) = machine.binary(Bytes::from_static(b"\x01")) else { panic!() };
    assert_eq!(attachments, [&b"\x01"[..]]);
    assert_eq!(machine.text("451-[\"a\"]"), Ok(Effect::None));
    assert!(matches!(machine.text("bAQI="), Ok(Effect::Event { .. })), "base64 counts as binary");
}

#[test]
fn the_engines_own_packets_are_understood() {
    let mut machine = joined();
    assert_eq!(machine.text("3"), Ok(Effect::Pong));
    assert_eq!(machine.text("6"), Ok(Effect::None));
    assert_eq!(machine.text("1"), Ok(Effect::Close));
}

#[test]
fn what_the_protocol_forbids_ends_the_connection() {
    use CloseReason::{ParseError, ProtocolViolation, TransportError};
    let fresh = [
        ("42[\"a\"]", ProtocolViolation),
        ("41", ProtocolViolation),
        ("431[]", ProtocolViolation),
        ("451-[\"a\"]", ProtocolViolation),
        ("44{\"message\":\"no\"}", ProtocolViolation),
        ("2", TransportError),
        ("2probe", TransportError),
        ("5", TransportError),
        ("", ParseError),
        ("0{}", ParseError),
        ("8", ParseError),
        ("4", ParseError),
        ("42", ParseError),
        ("b!", ParseError),
        ("bAQI=", ParseError),
    ];
    for (text, reason) in fresh {
        assert_eq!(machine().text(text), Err(reason), "{text:?}");
    }
    let later = [("40", ProtocolViolation), ("42/x,[\"a\"]", ProtocolViolation), ("42[]", ParseError)];
    for (text, reason) in later {
        assert_eq!(joined().text(text), Err(reason), "{text:?}");
    }
    assert_eq!(joined().binary(Bytes::new()), Err(ParseError));
}

#[test]
fn an_event_before_the_answer_to_connect_ends_the_connection() {
    let mut machine = machine();
    assert!(machine.text("40").is_ok());
    assert_eq!(machine.text("42[\"a\"]"), Err(CloseReason::ProtocolViolation));
}

#[test]
fn a_refused_client_may_ask_again() {
    let mut machine = machine();
    assert!(machine.text("40").is_ok());
    machine.refused("/");
    assert!(matches!(machine.text("40{\"token\":\"x\"}"), Ok(Effect::Connect { .. })));
}

#[test]
fn namespaces_are_bounded() {
    let mut machine = machine();
    for index in 0..8 {
        assert!(matches!(machine.text(&format!("40/{index},")), Ok(Effect::Connect { .. })));
    }
    assert_eq!(machine.text("40/9,"), Ok(Effect::Refuse { namespace: "/9".into() }));
}

proptest! {
    #[test]
    fn no_sequence_of_texts_panics_or_skips_the_handshake(texts in prop::collection::vec("[0-6b][0-6]?(-|/x,|[0-9])?.{0,12}", 0..12)) {
        let mut machine = machine();
        for text in texts {
            match machine.text(&text) {
                Ok(Effect::Event { .. } | Effect::Ack { .. }) => prop_assert!(false, "an event before any join"),
                Err(_) => break,
                _ => {}
            }
        }
    }
}

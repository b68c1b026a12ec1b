//! The machine as a table of messages and their effects.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn machine() -> Machine {
    Machine::new(&Config::default())
}

fn joined() -> Machine {
    let mut machine = machine();
    assert_eq!(machine.text("0"), Ok(Effect::Connect { namespace: "/".into(), auth: json!({}) }));
    machine.joined("/");
    machine
}

#[test]
fn a_client_joins_sends_events_and_leaves() {
    let mut machine = joined();
    let event = Effect::Event {
        namespace: "/".into(),
        id: Some(3),
        args: vec![json!("hi"), json!(1)],
        attachments: Vec::new(),
    };
    assert_eq!(machine.text("23[\"hi\",1]"), Ok(event));
    let ack = Effect::Ack { namespace: "/".into(), id: 9, args: vec![json!("x")], attachments: Vec::new() };
    assert_eq!(machine.text("39[\"x\"]"), Ok(ack));
    assert_eq!(machine.text("1"), Ok(Effect::Leave { namespace: "/".into() }));
    assert_eq!(machine.text("2[\"late\"]"), Ok(Effect::None));
    assert!(matches!(machine.text("0"), Ok(Effect::Connect { .. })), "and may join again");
}

#[test]
fn a_second_connect_is_ignored_before_the_answer_and_a_violation_after_it() {
    let mut machine = machine();
    assert!(matches!(machine.text("0/a,"), Ok(Effect::Connect { .. })));
    assert_eq!(machine.text("0/a,"), Ok(Effect::DuplicateConnect { namespace: "/a".into() }));
    machine.joined("/a");
    assert_eq!(machine.text("0/a,"), Err(CloseReason::ProtocolViolation));
}

#[test]
fn binary_arguments_are_part_of_their_event() {
    let mut machine = joined();
    assert_eq!(machine.text("51-[\"a\",{\"_placeholder\":true,\"num\":0}]"), Ok(Effect::None));
    let Ok(Effect::Event { attachments, .. }) = machine.binary(Bytes::from_static(b"\x01")) else { panic!() };
    assert_eq!(attachments, [&b"\x01"[..]]);
}

#[test]
fn protocol_violations_close_the_connection() {
    use CloseReason::{ParseError, ProtocolViolation};
    let fresh = [
        ("2[\"a\"]", ProtocolViolation),
        ("1", ProtocolViolation),
        ("31[]", ProtocolViolation),
        ("51-[\"a\"]", ProtocolViolation),
        ("4{\"message\":\"no\"}", ProtocolViolation),
        ("", ParseError),
        ("8", ParseError),
        ("2", ParseError),
    ];
    for (text, reason) in fresh {
        assert_eq!(machine().text(text), Err(reason), "{text:?}");
    }
    let later = [("0", ProtocolViolation), ("2/x,[\"a\"]", ProtocolViolation), ("2[]", ParseError)];
    for (text, reason) in later {
        assert_eq!(joined().text(text), Err(reason), "{text:?}");
    }
    assert_eq!(joined().binary(Bytes::new()), Err(ParseError));
}

#[test]
fn early_events_are_delivered_after_the_answer_to_connect() {
    let mut machine = machine();
    for text in ["0", "2[\"a\"]", "0/x,", "2/x,[\"c\"]", "27[\"b\"]", "39[]"] {
        assert!(
            !matches!(machine.text(text), Err(_) | Ok(Effect::Event { .. } | Effect::Ack { .. })),
            "{text}"
        );
    }
    let event = |id, name| Effect::Event {
        namespace: "/".into(),
        id,
        args: vec![json!(name)],
        attachments: Vec::new(),
    };
    assert_eq!(machine.joined("/"), [event(None, "a"), event(Some(7), "b")]);
    machine.refused("/x");
    assert!(matches!(machine.text("0/x,"), Ok(Effect::Connect { .. })));
    assert_eq!(machine.joined("/x"), [], "early events of a refused client are dropped");
}

#[test]
fn early_events_are_bounded() {
    let early = |texts: &[&str]| {
        let mut machine = machine();
        assert!(machine.text("0").is_ok());
        texts.iter().try_for_each(|text| machine.text(text).map(drop))
    };
    assert_eq!(early(&["2[\"a\"]"; 32]), Ok(()));
    assert_eq!(early(&["2[\"a\"]"; 33]), Err(CloseReason::TooEarly));
    let long = format!("2[\"{}\"]", "a".repeat(16 * 1024 - 5));
    assert_eq!(early(&[&long]), Ok(()));
    assert_eq!(early(&[&long, "2[\"a\"]"]), Err(CloseReason::TooEarly));
    let mut machine = machine();
    assert!(machine.text("0").is_ok());
    assert_eq!(
        machine.text("51-[\"a\"]"),
        Err(CloseReason::TooEarly),
        "early binary events are not buffered"
    );
}

#[test]
fn unrepresentable_packets_keep_their_order() {
    let unreadable = |id| Effect::Unreadable { namespace: "/".into(), id, name: "a".into() };
    assert_eq!(joined().text("23[\"a\",1e400]"), Ok(unreadable(Some(3))));
    assert_eq!(joined().text("31[1e400]"), Ok(Effect::StrayAck));
    let mut machine = machine();
    assert!(matches!(machine.text("0{\"token\":1e400}"), Ok(Effect::Refuse { .. })));
    assert!(
        matches!(machine.text("0{\"token\":\"\\ud83d\"}"), Ok(Effect::Connect { .. })),
        "it may request again"
    );
    assert_eq!(machine.text("2[\"a\",1e400]"), Ok(Effect::None));
    assert_eq!(machine.joined("/"), [unreadable(None)]);
    assert_eq!(machine.text("51-[\"a\",1e400,{\"_placeholder\":true,\"num\":0}]"), Ok(Effect::None));
    assert_eq!(machine.binary(Bytes::new()), Ok(unreadable(None)), "its attachments are consumed");
    assert_eq!(machine.text("0{\"token\":1e400}"), Err(CloseReason::ProtocolViolation));
}

#[test]
fn a_refused_client_may_request_again() {
    let mut machine = machine();
    assert!(machine.text("0").is_ok());
    machine.refused("/");
    assert!(matches!(machine.text("0{\"token\":\"x\"}"), Ok(Effect::Connect { .. })));
}

#[test]
fn namespaces_are_bounded() {
    let mut machine = machine();
    for index in 0..8 {
        assert!(matches!(machine.text(&format!("0/{index},")), Ok(Effect::Connect { .. })));
    }
    assert_eq!(
        machine.text("0/9,"),
        Ok(Effect::Refuse { namespace: "/9".into(), message: "Too many namespaces" })
    );
}

proptest! {
    #[test]
    fn no_sequence_of_texts_panics_or_skips_the_handshake(texts in prop::collection::vec("[0-6](-|/x,|[0-9])?.{0,12}", 0..12)) {
        let mut machine = machine();
        for text in texts {
            match machine.text(&text) {
                Ok(Effect::Event { .. } | Effect::Unreadable { .. } | Effect::Ack { .. }) => prop_assert!(false, "an event before any join"),
                Err(_) => break,
                _ => {}
            }
        }
    }
}

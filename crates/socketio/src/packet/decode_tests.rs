//! The decoder against the examples of the protocol and a table of malformed packets.

use serde_json::json;

use super::*;

fn whole(text: &str) -> Packet {
    match decode(text, 10) {
        Ok(Decoded::Complete(packet)) => packet,
        other => panic!("{text}: {other:?}"),
    }
}

fn event(namespace: &str, id: Option<u64>, args: Value) -> Packet {
    let Value::Array(args) = args else { panic!("args are an array") };
    Packet { namespace: namespace.into(), kind: PacketKind::Event { id, args, attachments: Vec::new() } }
}

#[test]
fn connect_has_an_object_or_no_payload() {
    let connect =
        |namespace: &str, auth| Packet { namespace: namespace.into(), kind: PacketKind::Connect(auth) };
    assert_eq!(whole("0"), connect("/", json!({})));
    assert_eq!(whole("0{\"token\":\"a\"}"), connect("/", json!({"token": "a"})));
    assert_eq!(whole("0/admin"), connect("/admin", json!({})));
    assert_eq!(whole("0/admin,"), connect("/admin", json!({})));
    assert_eq!(whole("0/admin?a=1,{\"x\":1}"), connect("/admin?a=1", json!({"x": 1})));
}

#[test]
fn events_have_a_name_arguments_and_an_optional_id() {
    assert_eq!(whole("2[\"a\"]"), event("/", None, json!(["a"])));
    assert_eq!(whole("212[\"a\",{\"b\":[1]}]"), event("/", Some(12), json!(["a", {"b": [1]}])));
    assert_eq!(whole("2/admin,456[\"a\"]"), event("/admin", Some(456), json!(["a"])));
    assert_eq!(whole("29007199254740991[\"a\"]"), event("/", Some((1 << 53) - 1), json!(["a"])));
    for id in [1 << 53, (1 << 53) + 1, u64::MAX] {
        assert_eq!(whole(&format!("2{id}[\"a\"]")), event("/", Some(id), json!(["a"])));
        let ack = PacketKind::Ack { id, args: Vec::new(), attachments: Vec::new() };
        assert_eq!(whole(&format!("3{id}[]")).kind, ack);
        assert!(matches!(decode(&format!("51-{id}[\"a\"]"), 10), Ok(Decoded::Incomplete(_, 1))));
    }
    assert_eq!(whole("2007[\"a\"]"), event("/", Some(7), json!(["a"])));
    assert_eq!(whole("318446744073709551616[]").kind, PacketKind::UnreadableAck);
    assert_eq!(decode("318446744073709551616[", 10), Err(Malformed));
    assert_eq!(whole("2[1]"), event("/", None, json!([1])));
}

#[test]
fn acks_and_disconnects_are_decoded() {
    let ack = PacketKind::Ack { id: 7, args: Vec::new(), attachments: Vec::new() };
    assert_eq!(whole("37[]").kind, ack);
    assert_eq!(whole("1/admin,"), Packet { namespace: "/admin".into(), kind: PacketKind::Disconnect });
    assert_eq!(whole("4{\"message\":\"no\"}").kind, PacketKind::ConnectError);
}

#[test]
fn a_placeholder_may_have_its_number_as_a_double() {
    let integers = json!(["a", {"_placeholder": true, "num": 1}, [{"x": {"_placeholder": true, "num": 0}}]]);
    for (one, zero) in [("1", "0"), ("1.0", "0.0"), ("1e0", "-0.0"), ("10E-1", "0e5"), ("1.000", "-0")] {
        let args = format!(
            "{{\"_placeholder\":true,\"num\":{one}}},[{{\"x\":{{\"_placeholder\":true,\"num\":{zero}}}}}]]"
        );
        for (kind, first) in [("52-", "[\"a\","), ("52-/x,7", "[\"a\","), ("62-7", "[\"a\",")] {
            let text = format!("{kind}{first}{args}");
            let Ok(Decoded::Incomplete(packet, 2)) = decode(&text, 10) else { panic!("{text}") };
            let (PacketKind::Event { args, .. } | PacketKind::Ack { args, .. }) = packet.kind else {
                panic!("{text}")
            };
            assert_eq!(json!(args), integers, "{text}");
        }
    }
}

#[test]
fn malformed_packets_are_refused() {
    let many_digits = format!("2{}-[\"a\"]", "9".repeat(1_000_000));
    let odd = [
        "",
        "2",
        "3",
        "01",
        "1{}",
        "0[]",
        "0null",
        "0\"x\"",
        "2{}",
        "2\"\"",
        "2[]",
        "2[null]",
        "2[{}]",
        "2[[\"a\"]]",
        "2[true,1]",
        "2[\"connect\"]",
        "2[\"connect_error\"]",
        "2[\"disconnect\"]",
        "2[\"disconnecting\"]",
        "2[\"newListener\",1]",
        "27[\"removeListener\"]",
        "51-[\"newListener\",{\"_placeholder\":true,\"num\":0}]",
        "2[\"removeListener\",1e400]",
        "31{}",
        "3[]",
        "299999999999999999999[\"a\"]",
        "2/admin[\"a\"]",
        "2 [\"a\"]",
        "5-[\"a\"]",
        "50-[\"a\"]",
        "60-[]",
        "50-7[\"a\",1]",
        "500-[\"a\"]",
        "60-7[]",
        "51.5-[\"a\"]",
        "51e3-[\"a\"]",
        "5 1-[\"a\"]",
        "5+1-[\"a\"]",
        "2[\"a\"]trailing",
        "2[\"a\"",
        "7[]",
        "x",
        "-1",
        "2[\"a\",NaN]",
        "2[\"a\",Infinity]",
        "2[\"a\",-Infinity]",
        "51-[\"a\",{\"_placeholder\":true}]",
        &many_digits,
    ];
    for text in odd {
        let shown: String = text.chars().take(60).collect();
        assert_eq!(decode(text, 10), Err(Malformed), "{shown}");
    }
}

#[test]
fn unrepresentable_json_invalidates_only_its_own_packet() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for bad in ["1e999", "-1e999", "[{\"x\":1e400}]", &deep] {
        let unreadable = |id, name: &str| PacketKind::UnreadableEvent { id, name: name.into() };
        assert_eq!(whole(&format!("27[\"a\",{bad}]")).kind, unreadable(Some(7), "a"));
        assert_eq!(whole(&format!("2/x,[\"\\ud83d\",{bad}]")).kind, unreadable(None, "\u{FFFD}"));
        assert_eq!(whole(&format!("2[1,{bad}]")).kind, unreadable(None, ""));
        assert_eq!(whole(&format!("31[{bad}]")).kind, PacketKind::UnreadableAck);
        assert_eq!(whole(&format!("0{{\"token\":{bad}}}")).kind, PacketKind::UnreadableConnect);
        let binary = format!("51-[\"a\",{bad},{{\"_placeholder\":true,\"num\":0}}]");
        assert!(matches!(decode(&binary, 10), Ok(Decoded::Incomplete(_, 1))));
        for malformed in [format!("2[\"a\",{bad}"), format!("2[\"connect\",{bad}]"), format!("2[[{bad}]]x")] {
            assert_eq!(decode(&malformed, 10), Err(Malformed));
        }
    }
    assert_eq!(whole("2[1e999]").kind, PacketKind::UnreadableEvent { id: None, name: String::new() });
    assert_eq!(
        whole("20[\"a\",\"nice \\ud83d\",{\"\\udc00\":-0}]"),
        event("/", Some(0), json!(["a", "nice \u{FFFD}", {"\u{FFFD}": -0.0}]))
    );
}

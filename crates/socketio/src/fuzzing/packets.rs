//! Long-polling bodies and the text of Socket.IO packets.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::Value;

use crate::{
    engine::frame,
    engine::{packet::Packet as Engine, payload},
    packet::{self, Assembler, Decoded, Packet, PacketKind, decode},
};

/// The attachment limit here.
const MAX_ATTACHMENTS: usize = 10;

/// A body equals its packets joined, and frames become the packets of a body.
pub fn eio_payload(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(packets) = payload::split(&text) else { return };
    let packets: Vec<_> = packets.collect();
    assert_eq!(packets.join("\x1e"), text);
    let mut body = payload::Body::default();
    for packet in &packets {
        let _ = Engine::parse(packet);
        body.add_frames(frame::text(&[packet]));
    }
    body.add_frames(frame::binary(data));
    let body = body.into_text();
    let (texts, binary) = body.rsplit_once('\x1e').expect("at least two packets were added");
    assert_eq!(texts, text);
    let Ok(Engine::Base64(binary)) = Engine::parse(binary) else { panic!("a binary packet: {binary}") };
    assert_eq!(STANDARD.decode(binary).as_deref(), Ok(data));
}

/// A decoded packet encodes to a text that decodes to the same packet.
pub fn sio_packet(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (packet, attachments) = match decode(&text, MAX_ATTACHMENTS) {
        Ok(Decoded::Complete(packet)) => (packet, 0),
        Ok(Decoded::Incomplete(packet, attachments)) => (packet, attachments),
        Err(_) => return,
    };
    assert!(attachments <= MAX_ATTACHMENTS);
    assemble(&text, attachments);
    let Some(again) = encode(&packet, attachments) else { return };
    let (again, count) = match decode(&again, MAX_ATTACHMENTS) {
        Ok(Decoded::Complete(packet)) => (packet, 0),
        Ok(Decoded::Incomplete(packet, count)) => (packet, count),
        Err(_) => panic!("encoded, but not decoded: {again}"),
    };
    assert_eq!(count, attachments);
    assert_eq!(plain(again), plain(packet));
}

/// A packet is complete after exactly its attachments.
fn assemble(text: &str, attachments: usize) {
    let mut assembler = Assembler::new(MAX_ATTACHMENTS, 100);
    let mut last = assembler.text(text).expect("it was decoded before");
    for index in 0..attachments {
        assert_eq!(last, None);
        last = assembler.binary(Bytes::copy_from_slice(&[index as u8])).expect("the packet announced it");
    }
    let Some(Packet { kind, .. }) = last else { panic!("incomplete after {attachments} attachments") };
    if let PacketKind::Event { attachments: got, .. } | PacketKind::Ack { attachments: got, .. } = kind {
        assert_eq!(got.len(), attachments);
    }
    assert!(assembler.binary(Bytes::new()).is_err(), "one more is unexpected");
}

/// The text of a packet, if servers send its kind.
fn encode(Packet { namespace, kind }: &Packet, attachments: usize) -> Option<String> {
    match kind {
        PacketKind::Event { id, args, .. } => {
            let (name, args) = args.split_first()?;
            packet::event_text(namespace, *id, name.as_str()?, &args, attachments, None).ok()
        }
        PacketKind::Ack { id, args, .. } => packet::ack_text(namespace, *id, args, attachments).ok(),
        PacketKind::Disconnect => Some(packet::disconnect_text(namespace)),
        PacketKind::Connect(_)
        | PacketKind::ConnectError
        | PacketKind::UnreadableConnect
        | PacketKind::UnreadableEvent { .. }
        | PacketKind::UnreadableAck => None,
    }
}

/// The packet without fractions: the JSON library does not preserve their last digit.
fn plain(mut packet: Packet) -> Packet {
    if let PacketKind::Event { args, .. } | PacketKind::Ack { args, .. } = &mut packet.kind {
        args.iter_mut().for_each(drop_fractions);
    }
    packet
}

fn drop_fractions(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => *value = Value::Null,
        Value::Array(items) => items.iter_mut().for_each(drop_fractions),
        Value::Object(map) => map.values_mut().for_each(drop_fractions),
        _ => {}
    }
}

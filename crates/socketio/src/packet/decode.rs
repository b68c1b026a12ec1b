//! Text to packet: `<type>[<attachments>-][<namespace>,][<id>][<JSON>]` (Socket.IO protocol 5, "Packet
//! encoding"). Stricter than the reference decoder, which accepts some malformed packets.

use serde_json::Value;

use super::{
    DecodeError::{self, Malformed},
    Decoded, Packet, PacketKind,
};
use crate::json;

/// Event names that the client library reserves.
const RESERVED: [&str; 4] = ["connect", "connect_error", "disconnect", "disconnecting"];

/// The largest ack id: the largest integer that a JavaScript number represents exactly.
const MAX_ID: u64 = (1 << 53) - 1;

/// Decodes one packet with at most `max_attachments` attachments.
pub(crate) fn decode(text: &str, max_attachments: usize) -> Result<Decoded, DecodeError> {
    let (digit, rest) = text.split_at_checked(1).ok_or(Malformed)?;
    let (attachments, rest) = match digit {
        "5" | "6" => read_count(rest, max_attachments)?,
        _ => (0, rest),
    };
    let (namespace, rest) = read_namespace(rest);
    let (id, json) = read_id(rest)?;
    let kind = read_kind(digit, id, json)?;
    if let PacketKind::Event { args, .. } | PacketKind::Ack { args, .. } = &kind {
        check_placeholders(args, attachments)?;
    }
    let packet = Packet { namespace: namespace.to_owned(), kind };
    Ok(if attachments == 0 { Decoded::Complete(packet) } else { Decoded::Incomplete(packet, attachments) })
}

/// `<count>-`: 1 to `max`.
fn read_count(text: &str, max: usize) -> Result<(usize, &str), DecodeError> {
    let (digits, rest) = text.split_once('-').ok_or(Malformed)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    match digits.parse().unwrap_or(usize::MAX) {
        0 => Err(Malformed),
        count if count <= max => Ok((count, rest)),
        _ => Err(DecodeError::TooManyAttachments),
    }
}

fn read_namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    text.split_once(',').unwrap_or((text, ""))
}

fn read_id(text: &str) -> Result<(Option<u64>, &str), DecodeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Ok((None, text));
    }
    let (id, rest) = text.split_at(digits);
    let id = id.parse().ok().filter(|id| *id <= MAX_ID).ok_or(Malformed)?;
    Ok((Some(id), rest))
}

fn read_kind(digit: &str, id: Option<u64>, json: &str) -> Result<PacketKind, DecodeError> {
    match (digit, id) {
        ("0", None) => read_auth(json),
        ("1", None) if json.is_empty() => Ok(PacketKind::Disconnect),
        ("2" | "5", id) => read_event(id, json),
        ("3" | "6", Some(id)) => {
            let args = parse(json, '[')?;
            Ok(args.map_or(PacketKind::UnreadableAck, |args| PacketKind::Ack {
                id,
                args,
                attachments: Vec::new(),
            }))
        }
        ("4", None) => Ok(PacketKind::ConnectError),
        _ => Err(Malformed),
    }
}

fn read_auth(json: &str) -> Result<PacketKind, DecodeError> {
    if json.is_empty() {
        return Ok(PacketKind::Connect(Value::Object(serde_json::Map::new())));
    }
    Ok(parse(json, '{')?.map_or(PacketKind::UnreadableConnect, PacketKind::Connect))
}

/// Parses JSON that must begin with `first`. Leading space is rejected: it would be ambiguous with an empty
/// id. `Ok(None)`: the JSON is well-formed but cannot be represented (a number beyond a double, or more than
/// 128 levels of nesting).
fn parse<T: serde::de::DeserializeOwned>(text: &str, first: char) -> Result<Option<T>, DecodeError> {
    let text = Some(text).filter(|text| text.starts_with(first)).ok_or(Malformed)?;
    match json::from_str(text) {
        Ok(value) => Ok(Some(value)),
        Err(_) if json::is_well_formed(text) => Ok(None),
        Err(_) => Err(Malformed),
    }
}

fn read_event(id: Option<u64>, json: &str) -> Result<PacketKind, DecodeError> {
    let Some(args) = parse::<Vec<Value>>(json, '[')? else {
        let name = match json::first_item(json) {
            Some(Value::String(name)) if !RESERVED.contains(&name.as_str()) => name,
            Some(Value::Number(_)) => String::new(),
            None if json[1..].trim_start().starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                String::new()
            }
            _ => return Err(Malformed),
        };
        return Ok(PacketKind::UnreadableEvent { id, name });
    };
    match args.first() {
        Some(Value::Number(_)) => (),
        Some(Value::String(name)) if !RESERVED.contains(&name.as_str()) => (),
        _ => return Err(Malformed),
    }
    Ok(PacketKind::Event { id, args, attachments: Vec::new() })
}

/// Every `{"_placeholder":true,"num":N}` must refer to an attachment. The JSON parser bounds the depth.
fn check_placeholders(args: &[Value], attachments: usize) -> Result<(), DecodeError> {
    args.iter().try_for_each(|value| check_value(value, attachments))
}

fn check_value(value: &Value, attachments: usize) -> Result<(), DecodeError> {
    match value {
        Value::Array(items) => check_placeholders(items, attachments),
        Value::Object(map) if attachments > 0 && map.get("_placeholder") == Some(&Value::Bool(true)) => {
            let index = map.get("num").and_then(Value::as_u64).ok_or(Malformed)?;
            if index < attachments as u64 { Ok(()) } else { Err(Malformed) }
        }
        Value::Object(map) => map.values().try_for_each(|value| check_value(value, attachments)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;

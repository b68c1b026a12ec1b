//! Text to packet: `<type>[<attachments>-][<namespace>,][<id>][<JSON>]` (Socket.IO protocol 5, "Packet
//! encoding"). Stricter than the reference decoder, which accepts some malformed packets.

use serde_json::Value;

use super::{
    DecodeError::{self, Malformed},
    Decoded, Packet, PacketKind,
};
use crate::json;

/// Event names that clients must not send, as in the reference decoder (`RESERVED_EVENTS` of socket.io-parser).
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// The id of an event or ack. The reference decoder reads it as a double and returns it rounded from 2^53 on. Here it is exact
/// up to 64 bits: rounded, it is the same double for JavaScript, and clients with 64-bit integers find their event. From 10^21
/// on, Node returns an id that its own client cannot parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    /// No digits.
    Absent,
    /// At most 64 bits.
    Number(u64),
    /// More than 64 bits.
    TooLarge,
}

/// Decodes one packet with at most `max_attachments` attachments.
pub(crate) fn decode(text: &str, max_attachments: usize) -> Result<Decoded, DecodeError> {
    let (digit, rest) = text.split_at_checked(1).ok_or(Malformed)?;
    let (attachments, rest) = match digit {
        "5" | "6" => read_count(rest, max_attachments)?,
        _ => (0, rest),
    };
    let (namespace, rest) = read_namespace(rest);
    let (id, json) = read_id(rest);
    let mut kind = read_kind(digit, id, json)?;
    if let PacketKind::Event { args, .. } | PacketKind::Ack { args, .. } = &mut kind {
        check_placeholders(args, attachments)?;
    }
    let packet = Packet { namespace: namespace.to_owned(), kind };
    Ok(if attachments == 0 { Decoded::Complete(packet) } else { Decoded::Incomplete(packet, attachments) })
}

/// `<count>-`: 1 to `max`. The reference decoder refuses zero as well, since 4.2.7.
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

fn read_id(text: &str) -> (Id, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (id, rest) = text.split_at(digits);
    let id = if digits == 0 { Id::Absent } else { id.parse().map_or(Id::TooLarge, Id::Number) };
    (id, rest)
}

fn read_kind(digit: &str, id: Id, json: &str) -> Result<PacketKind, DecodeError> {
    match (digit, id) {
        ("0", Id::Absent) => read_auth(json),
        ("1", Id::Absent) if json.is_empty() => Ok(PacketKind::Disconnect),
        ("2" | "5", Id::Absent) => read_event(None, json),
        ("2" | "5", Id::Number(id)) => read_event(Some(id), json),
        ("3" | "6", Id::Number(id)) => {
            let args = parse(json, '[')?;
            Ok(args.map_or(PacketKind::UnreadableAck, |args| PacketKind::Ack {
                id,
                args,
                attachments: Vec::new(),
            }))
        }
        // The server has sent no event with such an id, so the ack is ignored like each that is not expected.
        ("3" | "6", Id::TooLarge) => parse::<Vec<Value>>(json, '[').map(|_| PacketKind::UnreadableAck),
        ("4", Id::Absent) => Ok(PacketKind::ConnectError),
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

/// Every `{"_placeholder":true,"num":N}` must refer to an attachment. A whole number that is written as a double is replaced by the
/// integer. The JSON parser bounds the depth.
fn check_placeholders(args: &mut [Value], attachments: usize) -> Result<(), DecodeError> {
    args.iter_mut().try_for_each(|value| check_value(value, attachments))
}

fn check_value(value: &mut Value, attachments: usize) -> Result<(), DecodeError> {
    match value {
        Value::Array(items) => check_placeholders(items, attachments),
        Value::Object(map) if attachments > 0 && map.get("_placeholder") == Some(&Value::Bool(true)) => {
            let num = map.get_mut("num").ok_or(Malformed)?;
            let index = (0..attachments).find(|index| is_number(num, *index)).ok_or(Malformed)?;
            *num = Value::from(index);
            Ok(())
        }
        Value::Object(map) => map.values_mut().try_for_each(|value| check_value(value, attachments)),
        _ => Ok(()),
    }
}

/// Whether `value` is this number. Serializers of languages that hold all numbers as doubles write `0.0` for 0.
fn is_number(value: &Value, number: usize) -> bool {
    value.as_u64() == Some(number as u64) || value.as_f64() == Some(number as f64)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;

//! Text to packet: `<type>[<attachments>-][<namespace>,][<id>][<JSON>]` (Socket.IO protocol 5, "Packet encoding"). Where
//! the reference decoder is lax about what makes no sense, this one refuses.

use serde_json::Value;

use super::{Decoded, Kind, Malformed, Packet};

/// Event names that belong to the library on the client's side.
const RESERVED: [&str; 4] = ["connect", "connect_error", "disconnect", "disconnecting"];

/// The largest ack id: what a JavaScript number holds exactly.
const MAX_ID: u64 = (1 << 53) - 1;

/// Reads one packet, allowing at most `max_attachments`.
pub(crate) fn decode(text: &str, max_attachments: usize) -> Result<Decoded, Malformed> {
    let (digit, rest) = text.split_at_checked(1).ok_or(Malformed)?;
    let (attachments, rest) = match digit {
        "5" | "6" => read_count(rest, max_attachments)?,
        _ => (0, rest),
    };
    let (namespace, rest) = read_namespace(rest);
    let (id, json) = read_id(rest)?;
    let kind = read_kind(digit, id, json)?;
    if let Kind::Event { args, .. } | Kind::Ack { args, .. } = &kind {
        check_placeholders(args, attachments)?;
    }
    let packet = Packet { namespace: namespace.to_owned(), kind };
    Ok(if attachments == 0 { Decoded::Whole(packet) } else { Decoded::Awaiting(packet, attachments) })
}

/// `<count>-`: one or two digits, 1 to `max`.
fn read_count(text: &str, max: usize) -> Result<(usize, &str), Malformed> {
    let (digits, rest) = text.split_once('-').ok_or(Malformed)?;
    let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count = if plain { digits.parse().map_err(|_| Malformed)? } else { 0 };
    if (1..=max).contains(&count) { Ok((count, rest)) } else { Err(Malformed) }
}

fn read_namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    text.split_once(',').unwrap_or((text, ""))
}

fn read_id(text: &str) -> Result<(Option<u64>, &str), Malformed> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Ok((None, text));
    }
    let (id, rest) = text.split_at(digits);
    let id = id.parse().ok().filter(|id| *id <= MAX_ID).ok_or(Malformed)?;
    Ok((Some(id), rest))
}

fn read_kind(digit: &str, id: Option<u64>, json: &str) -> Result<Kind, Malformed> {
    match (digit, id) {
        ("0", None) => read_auth(json).map(Kind::Connect),
        ("1", None) if json.is_empty() => Ok(Kind::Disconnect),
        ("2" | "5", id) => Ok(Kind::Event { id, args: read_event(json)?, attachments: Vec::new() }),
        ("3" | "6", Some(id)) => Ok(Kind::Ack { id, args: read_array(json)?, attachments: Vec::new() }),
        ("4", None) => Ok(Kind::ConnectError),
        _ => Err(Malformed),
    }
}

fn read_auth(json: &str) -> Result<Value, Malformed> {
    if json.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    parse(json, '{')
}

fn read_array(json: &str) -> Result<Vec<Value>, Malformed> {
    parse(json, '[')
}

/// Parses JSON that begins with `first` at once: space in front of it is what an id of nothing looks like.
fn parse<T: serde::de::DeserializeOwned>(json: &str, first: char) -> Result<T, Malformed> {
    let json = Some(json).filter(|json| json.starts_with(first)).ok_or(Malformed)?;
    serde_json::from_str(json).map_err(|_| Malformed)
}

fn read_event(json: &str) -> Result<Vec<Value>, Malformed> {
    let args = read_array(json)?;
    match args.first() {
        Some(Value::Number(_)) => Ok(args),
        Some(Value::String(name)) if !RESERVED.contains(&name.as_str()) => Ok(args),
        _ => Err(Malformed),
    }
}

/// Every `{"_placeholder":true,"num":N}` must point at an attachment. Depth is bounded by the JSON parser's own limit.
fn check_placeholders(args: &[Value], attachments: usize) -> Result<(), Malformed> {
    args.iter().try_for_each(|value| check_value(value, attachments))
}

fn check_value(value: &Value, attachments: usize) -> Result<(), Malformed> {
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

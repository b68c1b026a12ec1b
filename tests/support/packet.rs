//! Decodes the packets that a server may send over the WebSocket transport of Socket.IO. Decoding is strict: a packet that no conformant
//! server sends is an error, with its text. Used by `socket` and by the durability test's readers; does no I/O.

use serde_json::Value;

/// One packet from the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    /// `0{...}`: the session is open.
    Open(Value),
    /// `1`: the session ends.
    Close,
    /// `2`: a heartbeat.
    Ping,
    /// `40{"sid":...}`: the server accepted CONNECT.
    Connected(Value),
    /// `41`: the server disconnected the namespace.
    Left,
    /// `42[name, ...]`: an event; `ack` when the server expects an ack.
    Event { name: String, args: Vec<Value>, ack: Option<u64> },
    /// `43id[...]`: an ack.
    Ack { id: u64, args: Vec<Value> },
    /// `44{...}`: the server refused CONNECT.
    Refused(Value),
}

impl Packet {
    /// Decodes one text frame.
    pub fn decode(text: &str) -> Result<Self, String> {
        let fault = |why: &str| Err(format!("{why}: {:?}", text.chars().take(200).collect::<String>()));
        let Some(kind) = text.chars().next() else { return fault("an empty frame") };
        let rest = &text[kind.len_utf8()..];
        match kind {
            '0' => open(rest).or_else(|why| fault(&why)),
            '1' if rest.is_empty() => Ok(Self::Close),
            '2' if rest.is_empty() => Ok(Self::Ping),
            '4' => message(rest).or_else(|why| fault(&why)),
            _ => fault("not a packet a server may send here"),
        }
    }
}

/// The Engine.IO 4 handshake has exactly these five keys.
fn open(json: &str) -> Result<Packet, String> {
    let value = parse(json)?;
    let keys: Vec<&String> = value.as_object().ok_or("the handshake is no object")?.keys().collect();
    let mut expected = ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"];
    expected.sort_unstable();
    if keys.len() == 5 && expected.iter().all(|key| value.get(key).is_some()) {
        Ok(Packet::Open(value))
    } else {
        Err(format!("a handshake with the keys {keys:?}"))
    }
}

fn message(text: &str) -> Result<Packet, String> {
    let (kind, rest) = text.split_at_checked(1).ok_or("an empty message")?;
    if rest.starts_with('/') {
        return Err("a packet of another namespace".into());
    }
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (id, json) = rest.split_at(digits);
    let id = if id.is_empty() { None } else { Some(id.parse::<u64>().map_err(|error| error.to_string())?) };
    match (kind, id) {
        ("0", None) => connected(json),
        ("1", None) if json.is_empty() => Ok(Packet::Left),
        ("2", ack) => event(json, ack),
        ("3", Some(id)) => Ok(Packet::Ack { id, args: array(json)? }),
        ("4", None) => Ok(Packet::Refused(parse(json)?)),
        _ => Err("not a Socket.IO packet".into()),
    }
}

fn connected(json: &str) -> Result<Packet, String> {
    let value = parse(json)?;
    let object = value.as_object().ok_or("CONNECT without an object")?;
    if value["sid"].is_string() && object.keys().all(|key| key == "sid" || key == "pid") {
        Ok(Packet::Connected(value))
    } else {
        Err("CONNECT with other keys than sid and pid".into())
    }
}

fn event(json: &str, ack: Option<u64>) -> Result<Packet, String> {
    let mut args = array(json)?;
    match args.first() {
        Some(Value::String(name)) => {
            let name = name.clone();
            args.remove(0);
            Ok(Packet::Event { name, args, ack })
        }
        _ => Err("an event without a name".into()),
    }
}

fn array(json: &str) -> Result<Vec<Value>, String> {
    match parse(json)? {
        Value::Array(values) => Ok(values),
        _ => Err("not an array".into()),
    }
}

fn parse(json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

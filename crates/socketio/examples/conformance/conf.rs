//! Namespace `/conf` of the profile `client`: one event per operation of the library. Operations on other
//! sockets use the [`Io`], as in any application.

use std::time::Duration;

use actix_web::rt;
use bytes::Bytes;
use serde_json::{Value, json};
use socketio::{CloseReason, Encoded, Event, Io, Operation, Peer, Refusal, Reply, Response, Socket, Target};

use crate::{
    cluster,
    emit::{emit, send_ack},
};

/// The namespace.
pub const NAMESPACE: &str = "/conf";

/// Time within which a client must answer `question`.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest number of events of one `burst`, and of bytes of one ack.
const MAX_BURST: u64 = 4000;
const MAX_BYTES: usize = 1 << 20;

/// The peer of one client.
pub struct Conf {
    socket: Socket,
    handshake: Value,
    io: Io,
    port: u16,
}

impl Conf {
    /// Accepts a client, unless its auth contains `fail`.
    pub fn accept(socket: Socket, handshake: Value, io: Io, port: u16) -> Result<Self, Refusal> {
        if handshake["auth"].get("fail").is_some() {
            let data = json!({"code": 42, "detail": "nope"});
            return Err(Refusal { data: Some(data), ..Refusal::new("denied") });
        }
        Ok(Self { socket, handshake, io, port })
    }

    fn bounce(&self, event: &Event) {
        match Encoded::binary_event(NAMESPACE, "bounce", &event.args, &event.attachments, None) {
            Ok(event) => self.socket.emit(&event),
            Err(error) => tracing::error!(%error, "cannot encode the event"),
        }
    }

    fn ask(&self, event: Event, reply: Option<Reply>) {
        let socket = self.socket.clone();
        rt::spawn(async move {
            let (args, attachments) = (&event.args, &event.attachments);
            let asked = socket.emit_binary_with_ack("question", args, attachments, ACK_TIMEOUT).await;
            let Some(reply) = reply else { return };
            match asked {
                Ok(Response { mut args, attachments }) => {
                    args.insert(0, Value::Null);
                    reply.send_binary(&args, &attachments);
                }
                Err(_) => reply.send(&("timeout",)),
            }
        });
    }

    /// Forwards an event of the client to other sockets.
    fn forward(&self, name: &str, event: &mut Event) {
        let (own, first) = (self.socket.id().room(), value(event, 0));
        let to = match (name, first.as_str()) {
            ("all", _) => Target::all(NAMESPACE),
            ("room", Some(room)) => Target::room(NAMESPACE, room.into()).except(own),
            ("room", None) => return,
            _ => Target::all(NAMESPACE).except(own),
        };
        match name {
            "room" => self.send(to, name, &json!([first, value(event, 1)])),
            _ => self.send(to, name, &json!([first])),
        }
    }

    /// Sends an event to other sockets.
    fn send(&self, to: Target, name: &str, args: &Value) {
        match Encoded::event(NAMESPACE, name, args, None) {
            Ok(packet) => {
                let io = self.io.clone();
                rt::spawn(
                    async move { io.send(vec![Operation::Send { to, packet, volatile: false }]).await },
                );
            }
            Err(error) => tracing::error!(%error, name, "cannot encode the event"),
        }
    }

    fn burst(&self, count: u64, reply: Option<Reply>) {
        (0..count.min(MAX_BURST)).for_each(|number| emit(&self.socket, "seq", &(number,)));
        send_ack(reply, &(count.min(MAX_BURST),));
    }

    fn rooms(&self) -> Vec<String> {
        let own = self.socket.id().room();
        self.socket.rooms().iter().filter(|room| **room != own).map(ToString::to_string).collect()
    }

    fn who(&self) -> Value {
        json!({
            "id": self.socket.id().as_str(),
            "headers": self.handshake["headers"],
            "query": self.handshake["query"],
            "auth": self.handshake["auth"],
        })
    }
}

impl Peer for Conf {
    fn connected(&mut self) {
        let id = self.socket.id();
        let welcome =
            json!({"id": id.as_str(), "auth": self.handshake["auth"], "transport": self.socket.transport()});
        emit(&self.socket, "welcome", &(welcome,));
    }

    fn event(&mut self, mut event: Event, reply: Option<Reply>) {
        let name = std::mem::take(&mut event.name);
        match name.as_str() {
            "echo" => {
                if let Some(reply) = reply {
                    reply.send_binary(&event.args, &event.attachments);
                }
            }
            "bounce" => self.bounce(&event),
            "ask" => self.ask(event, reply),
            "join" | "leave" => {
                let room = text(&mut event, 0).into();
                match name.as_str() {
                    "join" => self.socket.join(&room),
                    _ => self.socket.leave(&room),
                }
                send_ack(reply, &("ok",));
            }
            "room" | "all" | "others" => self.forward(&name, &mut event),
            "rooms" => send_ack(reply, &(self.rooms(),)),
            "burst" => self.burst(value(&mut event, 0).as_u64().unwrap_or(0), reply),
            "bytes" => send_bytes(value(&mut event, 0).as_u64(), reply),
            "length" => send_ack(reply, &(length(&event),)),
            "transport" => send_ack(reply, &(self.socket.transport(),)),
            "whoami" => send_ack(reply, &(self.who(),)),
            "leaveNs" => self.socket.disconnect(None),
            "closeAll" => self.socket.disconnect(Some(CloseReason::ServerClose)),
            "killTransport" => self.socket.abort(),
            other => {
                if let Some(operation) = other.strip_prefix("cluster:") {
                    cluster::event(&self.io, self.port, operation, event, reply);
                }
            }
        }
    }

    fn closed(&mut self, _: CloseReason) {}
}

/// Argument `index`, null when absent.
pub fn value(event: &mut Event, index: usize) -> Value {
    event.args.get_mut(index).map(Value::take).unwrap_or_default()
}

/// Argument `index` as text.
pub fn text(event: &mut Event, index: usize) -> String {
    match value(event, index) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn send_bytes(count: Option<u64>, reply: Option<Reply>) {
    let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0).min(MAX_BYTES);
    if let Some(reply) = reply {
        reply.send_binary(&[json!({"_placeholder": true, "num": 0})], &[Bytes::from(vec![7; count])]);
    }
}

/// The number of bytes of a binary argument, or of UTF-16 units of a text, as JavaScript counts them.
fn length(event: &Event) -> usize {
    match (event.attachments.first(), event.args.first()) {
        (Some(data), _) => data.len(),
        (None, Some(Value::String(text))) => text.encode_utf16().count(),
        _ => 0,
    }
}

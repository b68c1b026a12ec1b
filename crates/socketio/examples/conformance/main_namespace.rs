//! Namespace `/` of the profile `client`: one event per case of the suite.

use std::time::{Duration, SystemTime};

use actix_web::rt;
use bytes::Bytes;
use serde_json::{Value, json};
use socketio::{CloseReason, Encoded, Event, Peer, Refusal, Reply, Socket};

use crate::emit::{emit, send_ack};

/// Time within which the client must answer `ack`.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// The bytes that the suite expects.
const BYTES: Bytes = Bytes::from_static(b"asdfasdf");

const TEXTS: [&str; 5] = ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"];

/// The peer of one client.
pub struct MainNamespace {
    socket: Socket,
    handshake: Value,
    /// The events whose order is checked, as received.
    received: Vec<&'static str>,
}

impl MainNamespace {
    /// Accepts a client, unless its query contains `fail`.
    pub fn accept(socket: Socket, handshake: Value) -> Result<Self, Refusal> {
        if handshake["query"].get("fail").is_some() {
            return Err(Refusal::new("Auth failed (main namespace)"));
        }
        Ok(Self { socket, handshake, received: Vec::new() })
    }

    /// Records an event of a sequence. Returns whether the expected ones precede it.
    fn follows(&mut self, name: &'static str, before: &[&str]) -> bool {
        let in_order = self.received.ends_with(before);
        self.received.push(name);
        in_order
    }

    fn order(&mut self, name: &str, is_binary: bool) {
        let socket = self.socket.clone();
        match name {
            "abuff1" if is_binary => self.received.push("abuff1"),
            "abuff2" if self.follows("abuff2", &["abuff1"]) => emit(&socket, "abuff2-ack", &()),
            "blob1" if is_binary => self.received.push("blob1"),
            "blob2" => self.received.push("blob2"),
            "blob3" if is_binary && self.follows("blob3", &["blob1", "blob2"]) => {
                emit(&socket, "blob3-ack", &())
            }
            _ => {}
        }
    }

    fn query(&self) {
        let socket = self.socket.clone();
        rt::spawn(async move {
            let answer = socket.emit_with_ack("ack", &(), ACK_TIMEOUT).await;
            if answer.is_ok_and(|answer| answer.args == [json!(5), json!({"test": true})]) {
                emit(&socket, "got it", &());
            }
        });
    }
}

fn emit_bytes(socket: &Socket, name: &str) {
    let args = [json!({"_placeholder": true, "num": 0})];
    match Encoded::binary_event("/", name, &args, &[BYTES], None) {
        Ok(event) => socket.emit(&event),
        Err(error) => tracing::error!(%error, name, "cannot encode the event"),
    }
}

impl Peer for MainNamespace {
    fn event(&mut self, event: Event, reply: Option<Reply>) {
        let is_binary = !event.attachments.is_empty();
        let is_binary_in_json = is_binary && is_expected_object(event.args.first());
        let socket = &self.socket;
        match event.name.as_str() {
            "hi" => emit(socket, "hi", &()),
            "echo" => {
                if let Some(reply) = reply {
                    reply.send_binary(&[event.args.first()], &event.attachments);
                }
            }
            "ack" => self.query(),
            "getAckDate" => send_ack(reply, &(now(),)),
            "getDate" => emit(socket, "takeDate", &(now(),)),
            "getDateObj" => emit(socket, "takeDateObj", &(json!({"date": now()}),)),
            "getUtf8" => TEXTS.iter().for_each(|text| emit(socket, "takeUtf8", &(text,))),
            "false" => emit(socket, "false", &(false,)),
            "doge" => emit_bytes(socket, "doge"),
            "getbin" => emit_bytes(socket, "takebin"),
            "buffa" if is_binary => emit(socket, "buffack", &()),
            "blob" if is_binary => emit(socket, "back", &()),
            "jsonbuff" if is_binary_in_json => emit(socket, "jsonbuff-ack", &()),
            "jsonblob" if is_binary_in_json => emit(socket, "jsonblob-ack", &()),
            "getHandshake" => send_ack(reply, &(&self.handshake,)),
            "getId" => send_ack(reply, &(socket.id().as_str(),)),
            other => self.order(other, is_binary),
        }
    }

    fn closed(&mut self, _: CloseReason) {}
}

fn is_expected_object(value: Option<&Value>) -> bool {
    value.is_some_and(|value| value["hello"] == "lol" && value["goodbye"] == "gotcha")
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

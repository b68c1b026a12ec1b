//! Namespace `/` of the profile `client`: one event per case of the suite, and connection state recovery.

use std::time::{Duration, SystemTime};

use actix_web::rt;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use socketio::{
    Accepted, CloseReason, Connect, Encoded, Event, InMemoryRecovery, Io, Peer, RecoveredSession, Refusal,
    Reply, Socket,
};

use crate::{client::AnyPeer, emit::send_ack};

/// Time within which the client must answer `ack`.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// The bytes that the suite expects.
const BYTES: Bytes = Bytes::from_static(b"asdfasdf");

const TEXTS: [&str; 5] = ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"];

/// The peer of one client.
pub struct MainNamespace {
    emitter: Emitter,
    handshake: Value,
    recovery: InMemoryRecovery,
    pid: String,
    /// The events whose order is checked, as received.
    received: Vec<&'static str>,
}

/// Emits recoverable events to the client.
#[derive(Clone)]
struct Emitter {
    socket: Socket,
    recovery: InMemoryRecovery,
}

impl MainNamespace {
    /// Accepts a client, unless its query contains `fail`.
    pub async fn accept(
        connect: Connect<Value>,
        handshake: Value,
        recovery: InMemoryRecovery,
        io: Io,
    ) -> Result<Accepted<AnyPeer>, Refusal> {
        if handshake["query"].get("fail").is_some() {
            return Err(Refusal::new("Auth failed (main namespace)"));
        }
        let socket = connect.socket;
        let recovered_session = match &connect.resume {
            Some(resume) => recovery.resume(resume, &io).await,
            None => None,
        };
        let (pid, recovered) = match recovered_session {
            Some(RecoveredSession { sid, pid, rooms, recovered }) => {
                socket.adopt(&sid);
                rooms.iter().for_each(|room| socket.join(room));
                (pid, Some(recovered))
            }
            None => {
                let pid = recovery.start(socket.id(), "/");
                (pid.map_err(|error| Refusal::new(error.to_string()))?, None)
            }
        };
        let emitter = Emitter { socket, recovery: recovery.clone() };
        let peer = Self { emitter, handshake, recovery, pid: pid.clone(), received: Vec::new() };
        Ok(Accepted { peer: AnyPeer::new(Box::new(peer)), pid: Some(pid), recovered })
    }

    /// Records an event of a sequence. Returns whether the expected ones precede it.
    fn follows(&mut self, name: &'static str, before: &[&str]) -> bool {
        let in_order = self.received.ends_with(before);
        self.received.push(name);
        in_order
    }

    fn order(&mut self, name: &str, is_binary: bool) {
        let emitter = self.emitter.clone();
        match name {
            "abuff1" if is_binary => self.received.push("abuff1"),
            "abuff2" if self.follows("abuff2", &["abuff1"]) => emitter.emit("abuff2-ack", &()),
            "blob1" if is_binary => self.received.push("blob1"),
            "blob2" => self.received.push("blob2"),
            "blob3" if is_binary && self.follows("blob3", &["blob1", "blob2"]) => {
                emitter.emit("blob3-ack", &())
            }
            _ => {}
        }
    }

    fn query(&self) {
        let emitter = self.emitter.clone();
        rt::spawn(async move {
            let answer = emitter.socket.emit_with_ack("ack", &(), ACK_TIMEOUT).await;
            if answer.is_ok_and(|answer| answer.args == [json!(5), json!({"test": true})]) {
                emitter.emit("got it", &());
            }
        });
    }
}

impl Emitter {
    fn emit(&self, name: &str, args: &impl Serialize) {
        match self.recovery.event("/", vec![self.socket.id().room()], None, name, args) {
            Ok(event) => self.socket.emit(&event.packet),
            Err(error) => tracing::error!(%error, name, "cannot encode the event"),
        }
    }

    fn emit_bytes(&self, name: &str) {
        let args = [json!({"_placeholder": true, "num": 0})];
        match Encoded::binary_event("/", name, &args, &[BYTES], None) {
            Ok(event) => self.socket.emit(&event),
            Err(error) => tracing::error!(%error, name, "cannot encode the event"),
        }
    }
}

impl Peer for MainNamespace {
    fn event(&mut self, event: Event, reply: Option<Reply>) {
        let is_binary = !event.attachments.is_empty();
        let is_binary_in_json = is_binary && is_expected_object(event.args.first());
        let emitter = &self.emitter;
        match event.name.as_str() {
            "hi" => emitter.emit("hi", &()),
            "echo" => {
                if let Some(reply) = reply {
                    reply.send_binary(&[event.args.first()], &event.attachments);
                }
            }
            "ack" => self.query(),
            "getAckDate" => send_ack(reply, &(now(),)),
            "getDate" => emitter.emit("takeDate", &(now(),)),
            "getDateObj" => emitter.emit("takeDateObj", &(json!({"date": now()}),)),
            "getUtf8" => TEXTS.iter().for_each(|text| emitter.emit("takeUtf8", &(text,))),
            "false" => emitter.emit("false", &(false,)),
            "doge" => emitter.emit_bytes("doge"),
            "getbin" => emitter.emit_bytes("takebin"),
            "buffa" if is_binary => emitter.emit("buffack", &()),
            "blob" if is_binary => emitter.emit("back", &()),
            "jsonbuff" if is_binary_in_json => emitter.emit("jsonbuff-ack", &()),
            "jsonblob" if is_binary_in_json => emitter.emit("jsonblob-ack", &()),
            "getHandshake" => send_ack(reply, &(&self.handshake,)),
            "getId" => send_ack(reply, &(emitter.socket.id().as_str(),)),
            other => self.order(other, is_binary),
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        if reason.is_recoverable() {
            self.recovery.disconnected(&self.pid, &self.emitter.socket);
        } else {
            self.recovery.remove(&self.pid);
        }
    }
}

fn is_expected_object(value: Option<&Value>) -> bool {
    value.is_some_and(|value| value["hello"] == "lol" && value["goodbye"] == "gotcha")
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

//! Namespace `/` of the profile `client`: one event for each case of the suite, and connection state recovery.

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

/// How long the client may take to answer `ack`.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the suite receives as bytes.
const BYTES: Bytes = Bytes::from_static(b"asdfasdf");

const TEXTS: [&str; 5] = ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"];

/// One client.
pub struct MainNamespace {
    voice: Voice,
    handshake: Value,
    recovery: InMemoryRecovery,
    pid: String,
    /// The events whose order counts, as they came.
    seen: Vec<&'static str>,
}

/// Speaks to the client so that it can come back for what it has missed.
#[derive(Clone)]
struct Voice {
    socket: Socket,
    recovery: InMemoryRecovery,
}

impl MainNamespace {
    /// Lets a client in, unless its query has `fail`.
    pub async fn enter(
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
            None => (recovery.start(socket.id(), "/"), None),
        };
        let voice = Voice { socket, recovery: recovery.clone() };
        let peer = Self { voice, handshake, recovery, pid: pid.clone(), seen: Vec::new() };
        Ok(Accepted { peer: AnyPeer::new(Box::new(peer)), pid: Some(pid), recovered })
    }

    /// Notes an event of a sequence; answers whether the ones before it came in order.
    fn follows(&mut self, name: &'static str, before: &[&str]) -> bool {
        let in_order = self.seen.ends_with(before);
        self.seen.push(name);
        in_order
    }

    fn order(&mut self, name: &str, is_binary: bool) {
        let voice = self.voice.clone();
        match name {
            "abuff1" if is_binary => self.seen.push("abuff1"),
            "abuff2" if self.follows("abuff2", &["abuff1"]) => voice.emit("abuff2-ack", &()),
            "blob1" if is_binary => self.seen.push("blob1"),
            "blob2" => self.seen.push("blob2"),
            "blob3" if is_binary && self.follows("blob3", &["blob1", "blob2"]) => {
                voice.emit("blob3-ack", &())
            }
            _ => {}
        }
    }

    fn ask(&self) {
        let voice = self.voice.clone();
        rt::spawn(async move {
            let answer = voice.socket.emit_with_ack("ack", &(), PATIENCE).await;
            if answer.is_ok_and(|answer| answer.args == [json!(5), json!({"test": true})]) {
                voice.emit("got it", &());
            }
        });
    }
}

impl Voice {
    fn emit(&self, name: &str, args: &impl Serialize) {
        match self.recovery.event("/", vec![self.socket.id().room()], None, name, args) {
            Ok(event) => self.socket.emit(&event.packet),
            Err(error) => tracing::error!(%error, name, "event not sent"),
        }
    }

    fn say_bytes(&self, name: &str) {
        let args = [json!({"_placeholder": true, "num": 0})];
        match Encoded::binary_event("/", name, &args, &[BYTES], None) {
            Ok(event) => self.socket.emit(&event),
            Err(error) => tracing::error!(%error, name, "event not sent"),
        }
    }
}

impl Peer for MainNamespace {
    fn event(&mut self, event: Event, reply: Option<Reply>) {
        let is_binary = !event.attachments.is_empty();
        let is_binary_in_json = is_binary && is_greeting(event.args.first());
        let voice = &self.voice;
        match event.name.as_str() {
            "hi" => voice.emit("hi", &()),
            "echo" => {
                if let Some(reply) = reply {
                    reply.send_binary(&[event.args.first()], &event.attachments);
                }
            }
            "ack" => self.ask(),
            "getAckDate" => send_ack(reply, &(now(),)),
            "getDate" => voice.emit("takeDate", &(now(),)),
            "getDateObj" => voice.emit("takeDateObj", &(json!({"date": now()}),)),
            "getUtf8" => TEXTS.iter().for_each(|text| voice.emit("takeUtf8", &(text,))),
            "false" => voice.emit("false", &(false,)),
            "doge" => voice.say_bytes("doge"),
            "getbin" => voice.say_bytes("takebin"),
            "buffa" if is_binary => voice.emit("buffack", &()),
            "blob" if is_binary => voice.emit("back", &()),
            "jsonbuff" if is_binary_in_json => voice.emit("jsonbuff-ack", &()),
            "jsonblob" if is_binary_in_json => voice.emit("jsonblob-ack", &()),
            "getHandshake" => send_ack(reply, &(&self.handshake,)),
            "getId" => send_ack(reply, &(voice.socket.id().as_str(),)),
            other => self.order(other, is_binary),
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        if reason.is_recoverable() {
            self.recovery.disconnected(&self.pid, &self.voice.socket);
        } else {
            self.recovery.remove(&self.pid);
        }
    }
}

fn is_greeting(value: Option<&Value>) -> bool {
    value.is_some_and(|value| value["hello"] == "lol" && value["goodbye"] == "gotcha")
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

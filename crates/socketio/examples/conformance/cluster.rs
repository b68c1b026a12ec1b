//! The `cluster:` events of `/conf`: what an application may do to the sockets of every server. There is one server here, so
//! what is for the others alone reaches nobody.

use std::time::Duration;

use actix_web::rt;
use serde_json::{Value, json};
use socketio::{Answer, Bus, CloseReason, Encoded, Event, Fanout, Found, Reply, Room, Selection};

use crate::{
    conf::{NAMESPACE, text, value},
    say::answer,
};

/// One event; `operation` is its name after the colon.
pub fn event(bus: &Bus, port: u16, operation: &str, mut event: Event, reply: Option<Reply>) {
    let bus = bus.clone();
    let operation = operation.to_owned();
    rt::spawn(async move {
        match operation.as_str() {
            "fetch" => {
                let found = bus.fetch(filter(&value(&mut event, 0))).await;
                let list: Vec<Value> = found.iter().map(|socket| describe(socket, port)).collect();
                answer(reply, &(list,));
            }
            "join" | "leave" | "disconnect" => {
                apply(&bus, &operation, &mut event).await;
                answer(reply, &("ok",));
            }
            "ask" => ask(&bus, &mut event, reply).await,
            "except" | "binary" => {
                send(&bus, &operation, event).await;
                answer(reply, &("ok",));
            }
            "sse" => answer(reply, &(Value::Null, Vec::<Value>::new())),
            "sseNoAck" => answer(reply, &("ok",)),
            "sselog" => answer(reply, &(Vec::<Value>::new(),)),
            _ => {}
        }
    });
}

/// The sockets that a filter names: those of a room (or of an id), or all.
fn filter(value: &Value) -> Selection {
    match value {
        Value::Null => Selection::all(NAMESPACE),
        Value::String(room) => Selection::room(NAMESPACE, room.as_str().into()),
        Value::Array(rooms) => {
            let rooms = rooms.iter().filter_map(Value::as_str).map(Room::from).collect();
            Selection { rooms, ..Selection::all(NAMESPACE) }
        }
        other => Selection::room(NAMESPACE, other.to_string().into()),
    }
}

fn describe(Found { id, rooms }: &Found, port: u16) -> Value {
    let rooms: Vec<&str> = rooms.iter().map(AsRef::as_ref).collect();
    json!({"id": id.as_str(), "rooms": rooms, "data": {"port": port}})
}

async fn apply(bus: &Bus, operation: &str, event: &mut Event) {
    let found = bus.fetch(filter(&value(event, 0))).await;
    let room: Room = text(event, 1).into();
    let closes = room.as_ref() == "true";
    let fanouts = found.iter().map(|socket| match (operation, socket.id.room()) {
        ("join", of) => Fanout::Join { of, room: room.clone() },
        ("leave", of) => Fanout::Leave { of, room: room.clone() },
        (_, of) if closes => Fanout::Disconnect { of, reason: CloseReason::ServerClose },
        (_, of) => Fanout::Dismiss { of },
    });
    bus.send(fanouts.collect()).await;
}

async fn ask(bus: &Bus, event: &mut Event, reply: Option<Reply>) {
    let to = filter(&value(event, 0));
    let args = [value(event, 1)];
    let timeout = Duration::from_millis(value(event, 2).as_u64().unwrap_or(0));
    match bus.emit_with_ack(to, "question", &args, timeout).await {
        Ok(answers) => {
            let given: Vec<Value> = answers.given.into_iter().map(first).collect();
            let outcome = if answers.missing == 0 { Value::Null } else { "timeout".into() };
            answer(reply, &(outcome, given));
        }
        Err(error) => answer(reply, &(error.to_string(), Vec::<Value>::new())),
    }
}

fn first(Answer { args, .. }: Answer) -> Value {
    args.into_iter().next().unwrap_or_default()
}

async fn send(bus: &Bus, operation: &str, mut event: Event) {
    let room = value(&mut event, 0);
    let mut to = filter(&room);
    let packet = if operation == "except" {
        to = to.except(text(&mut event, 1).into());
        Encoded::event(NAMESPACE, "room", &[room, value(&mut event, 2)], None)
    } else {
        let placeholder = json!({"_placeholder": true, "num": 0});
        let args = [placeholder.clone(), json!({"nested": [placeholder]})];
        Encoded::binary_event(NAMESPACE, "bin", &args, &event.attachments, None)
    };
    match packet {
        Ok(packet) => bus.send(vec![Fanout::Send { to, packet, volatile: false }]).await,
        Err(error) => tracing::error!(%error, "event not sent"),
    }
}

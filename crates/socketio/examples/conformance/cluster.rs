//! The `cluster:` events of `/conf`: operations on the sockets of every server. There is only one server
//! here, so operations for the other servers reach no socket.

use std::time::Duration;

use actix_web::rt;
use serde_json::{Value, json};
use socketio::{CloseReason, Encoded, Event, Io, Operation, Reply, Response, Room, SocketInfo, Target};

use crate::{
    conf::{NAMESPACE, text, value},
    emit::send_ack,
};

/// Handles one event. `operation` is its name after the colon.
pub fn event(io: &Io, port: u16, operation: &str, mut event: Event, reply: Option<Reply>) {
    let io = io.clone();
    let operation = operation.to_owned();
    rt::spawn(async move {
        match operation.as_str() {
            "fetch" => {
                let found = io.fetch(filter(&value(&mut event, 0))).await;
                let list: Vec<Value> = found.iter().map(|socket| describe(socket, port)).collect();
                send_ack(reply, &(list,));
            }
            "join" | "leave" | "disconnect" => {
                apply(&io, &operation, &mut event).await;
                send_ack(reply, &("ok",));
            }
            "query" => query(&io, &mut event, reply).await,
            "except" | "binary" => {
                send(&io, &operation, event).await;
                send_ack(reply, &("ok",));
            }
            "sse" => send_ack(reply, &(Value::Null, Vec::<Value>::new())),
            "sseNoAck" => send_ack(reply, &("ok",)),
            "sselog" => send_ack(reply, &(Vec::<Value>::new(),)),
            _ => {}
        }
    });
}

/// The sockets that a filter selects: those of a room or of an id, or all.
fn filter(value: &Value) -> Target {
    match value {
        Value::Null => Target::all(NAMESPACE),
        Value::String(room) => Target::room(NAMESPACE, room.as_str().into()),
        Value::Array(rooms) => {
            let rooms = rooms.iter().filter_map(Value::as_str).map(Room::from).collect();
            Target { rooms, ..Target::all(NAMESPACE) }
        }
        other => Target::room(NAMESPACE, other.to_string().into()),
    }
}

fn describe(SocketInfo { id, rooms }: &SocketInfo, port: u16) -> Value {
    let rooms: Vec<&str> = rooms.iter().map(AsRef::as_ref).collect();
    json!({"id": id.as_str(), "rooms": rooms, "data": {"port": port}})
}

async fn apply(io: &Io, operation: &str, event: &mut Event) {
    let found = io.fetch(filter(&value(event, 0))).await;
    let room: Room = text(event, 1).into();
    let closes = room.as_ref() == "true";
    let operations = found.iter().map(|socket| match (operation, socket.id.room()) {
        ("join", of) => Operation::Join { of, room: room.clone() },
        ("leave", of) => Operation::Leave { of, room: room.clone() },
        (_, of) => Operation::Disconnect { of, close: closes.then_some(CloseReason::ServerClose) },
    });
    io.send(operations.collect()).await;
}

async fn query(io: &Io, event: &mut Event, reply: Option<Reply>) {
    let to = filter(&value(event, 0));
    let args = [value(event, 1)];
    let timeout = Duration::from_millis(value(event, 2).as_u64().unwrap_or(0));
    match io.emit_with_ack(to, "question", &args, timeout).await {
        Ok(answers) => {
            let given: Vec<Value> = answers.received.into_iter().map(first).collect();
            let outcome = if answers.missing == 0 { Value::Null } else { "timeout".into() };
            send_ack(reply, &(outcome, given));
        }
        Err(error) => send_ack(reply, &(error.to_string(), Vec::<Value>::new())),
    }
}

fn first(Response { args, .. }: Response) -> Value {
    args.into_iter().next().unwrap_or_default()
}

async fn send(io: &Io, operation: &str, mut event: Event) {
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
        Ok(packet) => io.send(vec![Operation::Send { to, packet, volatile: false }]).await,
        Err(error) => tracing::error!(%error, "cannot encode the event"),
    }
}

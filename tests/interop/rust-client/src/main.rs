//! rust_socketio as people use it: connects by polling, by WebSocket and by default, chats and gets an ack. Run by the test
//! as `rust-client URL ALICE_TOKEN BOB_TOKEN`; ends non-zero with a reason when anything is missing.

use std::{error::Error, sync::mpsc, time::Duration};

use rust_socketio::{ClientBuilder, Payload, TransportType, client::Client};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A connected client and what it hears.
struct Guest {
    client: Client,
    heard: mpsc::Receiver<Value>,
}

impl Guest {
    fn enters(url: &str, token: &str, transport: TransportType) -> Result<Self, Box<dyn Error>> {
        let (say, heard) = mpsc::channel();
        let (greet, welcomed) = mpsc::channel();
        let client = ClientBuilder::new(url)
            .opening_header("Cookie", format!("auth_token={token}"))
            .transport_type(transport)
            .reconnect(false)
            .on("message", move |payload, _| drop(say.send(first(payload))))
            .on("welcome", move |_, _| {
                let _ = greet.send(());
            })
            .connect()?;
        welcomed.recv_timeout(PATIENCE).map_err(|_| "no welcome")?;
        Ok(Self { client, heard })
    }

    /// Says something in the lobby; answers with the ack.
    fn says(&self, text: &str) -> Result<Value, Box<dyn Error>> {
        let (answer, answered) = mpsc::channel();
        let take = move |payload, _| drop(answer.send(first(payload)));
        self.client.emit_with_ack("message", json!({"text": text}), PATIENCE, take)?;
        Ok(answered.recv_timeout(PATIENCE).map_err(|_| "no ack")?)
    }
}

/// The first argument. The client hands an ack's arguments over as one array.
fn first(payload: Payload) -> Value {
    let Payload::Text(mut args) = payload else { return Value::Null };
    match args.first_mut() {
        Some(Value::Array(inner)) if !inner.is_empty() => inner[0].take(),
        Some(value) => value.take(),
        None => Value::Null,
    }
}

fn chat(way: &str, [url, alice, bob]: [&str; 3], transport: TransportType) -> Result<(), Box<dyn Error>> {
    let alice = Guest::enters(url, alice, transport.clone())?;
    let bob = Guest::enters(url, bob, transport)?;
    for n in 0..10 {
        let text = format!("{way} {n} ü✓");
        let ack = alice.says(&text)?;
        let heard = bob.heard.recv_timeout(PATIENCE).map_err(|_| format!("bob never heard {text}"))?;
        let fits = ack["ok"] == true && ack["seq"] == heard["seq"] && heard["data"]["text"] == text.as_str();
        if !fits {
            return Err(format!("said {text:?}, acked {ack}, heard {heard}").into());
        }
    }
    alice.client.disconnect()?;
    bob.client.disconnect()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, alice, bob] =
        args.iter().map(String::as_str).collect::<Vec<_>>().try_into().map_err(|_| "three arguments")?;
    let ways = [
        ("polling", TransportType::Polling),
        ("websocket", TransportType::Websocket),
        ("polling then websocket", TransportType::WebsocketUpgrade),
        ("any", TransportType::Any),
    ];
    for (way, transport) in ways {
        chat(way, [url, alice, bob], transport).map_err(|error| format!("{way}: {error}"))?;
    }
    Ok(())
}

//! rust_socketio: connects by polling, by WebSocket and by default, exchanges messages and receives acks. Run by the test as
//! `rust-client URL ALICE_TOKEN BOB_TOKEN`; exits with an error when something is missing.

use std::{error::Error, sync::mpsc, time::Duration};

use rust_socketio::{ClientBuilder, Payload, TransportType, client::Client};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A connected client and its received messages.
struct TestClient {
    client: Client,
    received: mpsc::Receiver<Value>,
}

impl TestClient {
    fn connect(url: &str, token: &str, transport: TransportType) -> Result<Self, Box<dyn Error>> {
        let (message, received) = mpsc::channel();
        let (welcome, welcomed) = mpsc::channel();
        let client = ClientBuilder::new(url)
            .opening_header("Cookie", format!("auth_token={token}"))
            .transport_type(transport)
            .reconnect(false)
            .on("message", move |payload, _| drop(message.send(first(payload))))
            .on("welcome", move |_, _| {
                let _ = welcome.send(());
            })
            .connect()?;
        welcomed.recv_timeout(TIMEOUT).map_err(|_| "no welcome")?;
        Ok(Self { client, received })
    }

    /// Sends a message to the lobby and returns the ack.
    fn send(&self, text: &str) -> Result<Value, Box<dyn Error>> {
        let (ack, acked) = mpsc::channel();
        let take = move |payload, _| drop(ack.send(first(payload)));
        self.client.emit_with_ack("message", json!({"text": text}), TIMEOUT, take)?;
        Ok(acked.recv_timeout(TIMEOUT).map_err(|_| "no ack")?)
    }
}

/// The first argument. This client passes the arguments of an ack as one array.
fn first(payload: Payload) -> Value {
    let Payload::Text(mut args) = payload else { return Value::Null };
    match args.first_mut() {
        Some(Value::Array(inner)) if !inner.is_empty() => inner[0].take(),
        Some(value) => value.take(),
        None => Value::Null,
    }
}

fn chat(way: &str, [url, alice, bob]: [&str; 3], transport: TransportType) -> Result<(), Box<dyn Error>> {
    let alice = TestClient::connect(url, alice, transport.clone())?;
    let bob = TestClient::connect(url, bob, transport)?;
    for n in 0..10 {
        let text = format!("{way} {n} ü✓");
        let ack = alice.send(&text)?;
        let received =
            bob.received.recv_timeout(TIMEOUT).map_err(|_| format!("bob did not receive {text}"))?;
        let fits =
            ack["ok"] == true && ack["seq"] == received["seq"] && received["data"]["text"] == text.as_str();
        if !fits {
            return Err(format!("sent {text:?}, acked {ack}, received {received}").into());
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

//! What the official client on Node observes for each close reason of the crate `socketio`. docs/events.md has the same table.

use std::{sync::mpsc, thread};

use actix_web::{App, HttpServer, dev::ServerHandle, rt::System};
use serde_json::{Value, json};
use socketio::{CloseReason, Config, Io, Server, on_connect, on_event};

use crate::support::programs::{node, run_to_end};

/// All reasons, in the order of the enum.
pub const REASONS: [CloseReason; 22] = [
    CloseReason::TransportClose,
    CloseReason::TransportError,
    CloseReason::PingTimeout,
    CloseReason::ParseError,
    CloseReason::InvalidText,
    CloseReason::ProtocolViolation,
    CloseReason::ConnectTimeout,
    CloseReason::TooLarge,
    CloseReason::TooManyAttachments,
    CloseReason::TooEarly,
    CloseReason::Flood,
    CloseReason::MessageTimeout,
    CloseReason::Slow,
    CloseReason::ClientDisconnect,
    CloseReason::ServerDisconnect,
    CloseReason::ServerClose,
    CloseReason::TooManyConnections,
    CloseReason::Superseded,
    CloseReason::Unverifiable,
    CloseReason::ServerError,
    CloseReason::CredentialsReplaced,
    CloseReason::ShuttingDown,
];

/// What the official client observes when the server ends its connection.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientView {
    /// The reason of its event `disconnect` over a WebSocket.
    pub websocket: &'static str,
    /// The same over long-polling. There are two where it depends on whether the client has a poll under way.
    pub polling: &'static [&'static str],
    /// Whether it reconnects without a call of the application.
    pub reconnects: bool,
}

/// What the official client observes for a reason.
pub fn client_view(reason: CloseReason) -> ClientView {
    use CloseReason::*;
    let view = |websocket, polling: &'static [&'static str], reconnects| ClientView {
        websocket,
        polling,
        reconnects,
    };
    match reason {
        ClientDisconnect => view("io client disconnect", &["io client disconnect"], false),
        ServerDisconnect => view("io server disconnect", &["io server disconnect"], false),
        // The next poll is answered with the Engine.IO error 1. With `Slow` the TCP connection is aborted.
        TransportClose | Slow => view("transport close", &["transport error"], true),
        // The server keeps the close packet for the next poll.
        ConnectTimeout | ServerClose | TooManyConnections | Unverifiable | ServerError
        | CredentialsReplaced | ShuttingDown => view("transport close", &["transport close"], true),
        TransportError | PingTimeout | ParseError | InvalidText | ProtocolViolation | TooLarge
        | TooManyAttachments | TooEarly | Flood | MessageTimeout | Superseded => {
            view("transport close", &["transport close", "transport error"], true)
        }
    }
}

/// A server that ends the connection of a client with the reason that the client names.
fn start() -> (String, ServerHandle) {
    let (started, address) = mpsc::channel();
    thread::spawn(move || {
        let end = on_event(|socket, event, _| {
            let reason =
                REASONS.into_iter().find(|reason| event.args.first() == Some(&json!(reason.as_str())));
            match reason.expect("the script sends a reason") {
                reason @ CloseReason::ServerDisconnect => socket.disconnect(Some(reason)),
                reason => socket.close(reason),
            }
        });
        let server = Server::new(Io::new(), end, Config::default());
        System::new().block_on(async move {
            let http = HttpServer::new(move || App::new().configure(|service| server.mount(service)))
                .on_connect(on_connect)
                .h1_allow_half_closed(false)
                .workers(1)
                .disable_signals()
                .bind("127.0.0.1:0")
                .expect("a free port");
            let url = format!("http://{}", http.addrs()[0]);
            let running = http.run();
            started.send((url, running.handle())).expect("the test waits");
            running.await.expect("the server runs");
        });
    });
    address.recv().expect("the server starts")
}

#[tokio::test]
async fn official_clients_observe_each_close_reason_as_documented() {
    let (url, server) = start();
    let mut command = node("close_reasons.mjs");
    let labels = REASONS.map(CloseReason::as_str);
    command.arg(url).arg(CloseReason::ClientDisconnect.as_str()).args(labels);
    let output = run_to_end("close_reasons.mjs", command).await;
    server.stop(false).await;
    let observed: Vec<Value> = serde_json::from_str(&output).expect("the script prints an array");
    assert_eq!(observed.len(), REASONS.len());
    for (reason, observed) in REASONS.into_iter().zip(&observed) {
        let ClientView { websocket, polling, reconnects } = client_view(reason);
        assert_eq!(observed["reason"], reason.as_str());
        assert_eq!(observed["websocket"], websocket, "{observed}");
        let seen = observed["polling"].as_str().expect("a reason");
        assert!(polling.contains(&seen), "{polling:?} expected: {observed}");
        assert_eq!(observed["reconnects"], json!([reconnects, reconnects]), "{observed}");
        let code = match reason {
            // The client closes the connection itself.
            CloseReason::ClientDisconnect | CloseReason::ServerDisconnect => Value::Null,
            // No close frame was received.
            CloseReason::Slow => json!(1006),
            reason => json!(reason.code()),
        };
        assert_eq!(observed["code"], code, "{observed}");
    }
}

//! What the official client on Node observes for each close reason of the crate `socketio`. docs/errors.md has the same table.

use std::{sync::mpsc, thread};

use actix_web::{App, HttpServer, dev::ServerHandle, rt::System};
use serde_json::{Value, json};
use socketio::{CloseReason, Config, Io, Server, on_connect, on_event};

use crate::interop::{node, run_to_end};

/// All reasons, in the order of the enum.
pub const REASONS: [CloseReason; 21] = [
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
    /// The same over long-polling.
    pub polling: &'static str,
    /// Whether it reconnects without a call of the application.
    pub reconnects: bool,
}

/// What the official client observes for a reason.
pub fn client_view(reason: CloseReason) -> ClientView {
    use CloseReason::*;
    let (websocket, polling, reconnects) = match reason {
        ClientDisconnect => ("io client disconnect", "io client disconnect", false),
        ServerDisconnect => ("io server disconnect", "io server disconnect", false),
        // The next poll is answered with the Engine.IO error 1.
        TransportClose => ("transport close", "transport error", true),
        // The server drops the connection without a close frame.
        Slow => ("transport close", "transport error", true),
        TransportError | PingTimeout | ParseError | InvalidText | ProtocolViolation | ConnectTimeout
        | TooLarge | TooManyAttachments | TooEarly | Flood | MessageTimeout | ServerClose | Superseded
        | Unverifiable | ServerError | CredentialsReplaced | ShuttingDown => {
            ("transport close", "transport close", true)
        }
    };
    ClientView { websocket, polling, reconnects }
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
    let observed: Value = serde_json::from_str(&output).expect("the script prints JSON");
    let expected = REASONS.map(|reason| {
        let ClientView { websocket, polling, reconnects } = client_view(reason);
        // The code of a close frame that the client received before it closed the connection itself.
        let has_code = !matches!(
            reason,
            CloseReason::ClientDisconnect | CloseReason::ServerDisconnect | CloseReason::Slow
        );
        let code = if has_code { json!(reason.code()) } else { Value::Null };
        json!({
            "reason": reason.as_str(), "websocket": websocket, "code": code, "polling": polling,
            "reconnects": [reconnects, reconnects],
        })
    });
    assert_eq!(observed, json!(expected), "{observed:#}");
}

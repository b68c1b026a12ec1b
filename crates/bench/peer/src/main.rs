//! A lobby on socketioxide, without accounts and without a store: `bench-peer serve --listen ADDRESS`. Other flags are ignored, so
//! that `bench` starts it as it starts Godzilla.

use axum::{Router, http::header::SET_COOKIE, routing::post};
use serde_json::{Value, json};
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, SocketRef},
};
use tokio::net::TcpListener;

const LOBBY: &str = "lobby";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().skip_while(|flag| flag != "--listen").nth(1).ok_or("--listen ADDRESS is missing")?;
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.join(LOBBY);
        socket.on("message", async |socket: SocketRef, Data::<Value>(message), ack: AckSender| {
            let sent = socket.to(LOBBY).emit("message", &message).await;
            let _ = ack.send(&json!({ "ok": sent.is_ok() }));
        });
    });
    let cookie = async || [(SET_COOKIE, "auth_token=of-anybody")];
    let router = Router::new().route("/user/login", post(cookie)).layer(layer);
    axum::serve(TcpListener::bind(address).await?, router).await?;
    Ok(())
}

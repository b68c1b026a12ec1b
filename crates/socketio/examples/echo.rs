//! The smallest application: answers every event with its own arguments. Run it with `cargo run -p socketio
//! --example echo` and connect a stock Socket.IO client to `http://127.0.0.1:3000`.

use actix_web::{App, HttpServer};
use socketio::{Config, Encoded, Event, Io, Server, on_connect, on_event};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let echo = on_event(|socket, Event { name, args, attachments }, reply| match reply {
        Some(reply) => reply.send_binary(&args, &attachments),
        None => match Encoded::binary_event("/", &name, &args, &attachments, None) {
            Ok(event) => socket.emit(&event),
            Err(error) => tracing::warn!(%error, "event not echoed"),
        },
    });
    let server = Server::new(Io::new(), echo, Config::default());
    HttpServer::new(move || App::new().configure(|service| server.mount(service)))
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .bind(("127.0.0.1", 3000))?
        .run()
        .await
}

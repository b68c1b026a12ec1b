//! The smallest application: answers every event with its own arguments. Run it with `cargo run -p socketio --example echo`
//! and point a stock Socket.IO client (WebSocket transport) at `http://127.0.0.1:3000`.

use actix_web::{App, HttpRequest, HttpServer};
use futures_util::future::LocalBoxFuture;
use socketio::{
    Bus, CloseReason, Config, Connect, Encoded, Entry, Event, Peer, Refusal, Reply, Server, Socket,
    on_connect,
};

struct Echo;

struct Client(Socket);

impl socketio::App for Echo {
    type Admission = ();
    type Peer = Client;

    fn admit(&self, _: &HttpRequest) -> Result<(), Refusal> {
        Ok(())
    }

    fn connect(&self, connect: Connect<()>) -> LocalBoxFuture<'static, Result<Entry<Client>, Refusal>> {
        Box::pin(async move { Ok(Entry::new(Client(connect.socket))) })
    }
}

impl Peer for Client {
    fn event(&mut self, event: Event, reply: Option<Reply>) {
        let Event { name, args, attachments } = event;
        match (reply, Encoded::binary_event("/", &name, &args, &attachments, None)) {
            (Some(reply), _) => reply.send_binary(&args, &attachments),
            (None, Ok(event)) => self.0.emit(&event),
            (None, Err(error)) => tracing::warn!(%error, "event not echoed"),
        }
    }

    fn closed(&mut self, _: CloseReason) {}
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let server = Server::new(Bus::new(), Echo, Config::default());
    HttpServer::new(move || App::new().configure(|service| server.mount(service)))
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .bind(("127.0.0.1", 3000))?
        .run()
        .await
}

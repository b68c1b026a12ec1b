//! Profile `protocol`: echo servers with the intervals that the suites of engine.io-protocol and
//! socket.io-protocol require.

use std::{io, time::Duration};

use actix_web::{
    App as HttpApp, HttpRequest, HttpServer,
    dev::Server as HttpHandle,
    rt::{self, time::sleep},
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use serde_json::Value;
use socketio::{
    Accepted, App, CloseReason, Config, Connect, Encoded, EngineApp, EnginePeer, EngineServer, EngineSocket,
    Event, Io, Peer, Refusal, Reply, Server, Socket, on_connect,
};

use crate::{WORKERS, emit::emit};

/// Starts both servers on one port.
pub fn listen(host: &str, port: u16) -> io::Result<HttpHandle> {
    let config = Config {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_millis(1000),
        ..Config::default()
    };
    let engine = EngineServer::new(Echo, Config { path: "/engine.io/".to_owned(), ..config.clone() });
    let server = Server::new(Io::new(), Echo, config);
    let server = HttpServer::new(move || {
        HttpApp::new().configure(|service| engine.mount(service)).configure(|service| server.mount(service))
    });
    Ok(server
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .workers(WORKERS)
        .tcp_nodelay(true)
        .bind((host, port))?
        .run())
}

/// The delay between the CONNECT answer and the first event. The suite reads one message at a time, and drops
/// the second of two that arrive in one read.
const EVENT_DELAY: Duration = Duration::from_millis(10);

struct Echo;

struct EchoPeer(EngineSocket);

struct Client {
    socket: Socket,
    auth: Value,
}

impl EngineApp for Echo {
    type Admission = ();
    type Peer = EchoPeer;

    fn admit(&self, _: &HttpRequest) -> Result<(), Refusal> {
        Ok(())
    }

    fn open(&self, socket: EngineSocket, _: ()) -> EchoPeer {
        EchoPeer(socket)
    }
}

impl EnginePeer for EchoPeer {
    fn text(&mut self, text: &str) {
        self.0.send_text(text);
    }

    fn binary(&mut self, data: Bytes) {
        self.0.send_binary(&data);
    }
}

impl App for Echo {
    type Admission = ();
    type Peer = Client;

    fn admit(&self, _: &HttpRequest) -> Result<(), Refusal> {
        Ok(())
    }

    fn connect(&self, connect: Connect<()>) -> LocalBoxFuture<'static, Result<Accepted<Client>, Refusal>> {
        Box::pin(async move {
            match &*connect.namespace {
                "/" | "/custom" => Ok(Accepted::new(Client { socket: connect.socket, auth: connect.auth })),
                _ => Err(Refusal::new("Invalid namespace")),
            }
        })
    }
}

impl Peer for Client {
    fn connected(&mut self) {
        let (socket, auth) = (self.socket.clone(), self.auth.take());
        rt::spawn(async move {
            sleep(EVENT_DELAY).await;
            emit(&socket, "auth", &(auth,));
        });
    }

    fn event(&mut self, Event { name, args, attachments }: Event, reply: Option<Reply>) {
        match (name.as_str(), reply) {
            ("message", _) => {
                let namespace = self.socket.namespace();
                match Encoded::binary_event(namespace, "message-back", &args, &attachments, None) {
                    Ok(event) => self.socket.emit(&event),
                    Err(error) => tracing::error!(%error, "cannot encode the event"),
                }
            }
            ("message-with-ack", Some(reply)) => reply.send_binary(&args, &attachments),
            _ => {}
        }
    }

    fn closed(&mut self, _: CloseReason) {}
}

//! Profile `client`: the namespaces that the test suite of socket.io-client requires, and `/conf` for further
//! checks.

use std::{future::ready, io, rc::Rc, time::Duration};

use actix_web::{
    App as HttpApp, HttpRequest, HttpServer,
    dev::{Server as HttpHandle, Service as _},
    rt::time::sleep,
};
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use socketio::{
    Accepted, App, CloseReason, Config, Connect, Cors, Event, Io, Peer, Recovery, Refusal, Reply, Server,
    Socket, on_connect,
};

use crate::{
    WORKERS,
    conf::Conf,
    emit::{emit, send_ack},
    handshake::{self, handshake},
    main_namespace::MainNamespace,
};

/// The delay of each handshake. Some cases require that the client's own timeout elapses first.
const DELAY: Duration = Duration::from_millis(10);

/// Starts the server with a delay of each handshake.
pub fn listen(host: &str, port: u16) -> io::Result<HttpHandle> {
    let io = Io::new();
    let app = Client { io: io.clone(), port };
    let config = Config {
        ping_interval: Duration::from_secs(2),
        ping_timeout: Duration::from_secs(20),
        cors: Cors::Reflect,
        recovery: Some(Recovery::in_memory()),
        ..Config::default()
    };
    let server = Server::new(io, app, config);
    let server = HttpServer::new(move || {
        HttpApp::new()
            .wrap_fn(|request, service| {
                let is_handshake = handshake::query(request.request()).get("sid").is_none();
                let response = service.call(request);
                async move {
                    if is_handshake {
                        sleep(DELAY).await;
                    }
                    response.await
                }
            })
            .configure(|service| server.mount(service))
    });
    Ok(server
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .workers(WORKERS)
        .tcp_nodelay(true)
        .bind((host, port))?
        .run())
}

struct Client {
    io: Io,
    /// The port that `/conf` reports.
    port: u16,
}

/// A peer of any of the namespaces.
struct AnyPeer(Box<dyn Peer>);

/// `/foo`: sends clients their id on request.
struct Foo(Socket);

/// `/abc`: sends clients their handshake.
struct Abc {
    socket: Socket,
    handshake: Value,
}

/// A namespace that ignores events.
struct Ignoring;

impl App for Client {
    type Admission = Value;
    type Peer = AnyPeer;

    fn admit(&self, request: &HttpRequest) -> Result<Value, Refusal> {
        Ok(handshake(request))
    }

    fn connect(
        &self,
        connect: Connect<Value>,
    ) -> LocalBoxFuture<'static, Result<Accepted<AnyPeer>, Refusal>> {
        Box::pin(ready(decide(connect, self.io.clone(), self.port)))
    }
}

fn decide(connect: Connect<Value>, io: Io, port: u16) -> Result<Accepted<AnyPeer>, Refusal> {
    let handshake = with_auth(&connect.admission, &connect.auth);
    let peer: Box<dyn Peer> = match &*connect.namespace {
        "/" => Box::new(MainNamespace::accept(connect.socket, handshake)?),
        "/conf" => Box::new(Conf::accept(connect.socket, handshake, io, port)?),
        "/foo" => Box::new(Foo(connect.socket)),
        "/abc" => Box::new(Abc { socket: connect.socket, handshake }),
        "/timeout_socket" | "/valid" | "/asd" => Box::new(Ignoring),
        "/no" => return Err(Refusal::new("Auth failed (custom namespace)")),
        _ => return Err(Refusal::new("Invalid namespace")),
    };
    Ok(Accepted::new(AnyPeer(peer)))
}

fn with_auth(handshake: &Rc<Value>, auth: &Value) -> Value {
    let mut handshake = Value::clone(handshake);
    handshake["auth"] = auth.clone();
    handshake
}

impl Peer for AnyPeer {
    fn connected(&mut self) {
        self.0.connected();
    }

    fn event(&mut self, event: Event, reply: Option<Reply>) {
        self.0.event(event, reply);
    }

    fn closed(&mut self, reason: CloseReason) {
        self.0.closed(reason);
    }
}

impl Peer for Foo {
    fn event(&mut self, event: Event, reply: Option<Reply>) {
        if event.name == "getId" {
            send_ack(reply, &(self.0.id().as_str(),));
        }
    }

    fn closed(&mut self, _: CloseReason) {}
}

impl Peer for Abc {
    fn connected(&mut self) {
        emit(&self.socket, "handshake", &json!([self.handshake]));
    }

    fn event(&mut self, _: Event, _: Option<Reply>) {}

    fn closed(&mut self, _: CloseReason) {}
}

impl Peer for Ignoring {
    fn event(&mut self, _: Event, _: Option<Reply>) {}

    fn closed(&mut self, _: CloseReason) {}
}
